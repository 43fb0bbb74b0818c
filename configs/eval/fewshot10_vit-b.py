"""Fine-tuning a grafted ViT-B/16 on 10 % of ImageNet-1k, from the first projector layer.

Paper:    Jiang et al., Layer Grafted Pre-training, ICLR 2023 (arXiv 2302.14138), Table 2
Command:  tools/dist_train.sh configs/eval/fewshot10_vit-b.py 7
Needs:    a checkpoint of a ViT in any layout that is known here, or `--init FILE`
Devices:  7 GPUs × 146 images (the authors, by their command; its heading says 8); time: not reported
Expected: top-1 77.8; from MAE 73.3, from MoCo v3 75.4 (paper, Table 2, by its recipe, whose text and command
          differ, see Note); not run here
Differs:  bf16 without a gradient scaler instead of fp16 with one
Note:     200 epochs, layer decay 0.75 and batch 1022 as in the authors' command; the paper says 400 epochs and the
          rest as in fine-tuning. Between projector layer and classifier is neither batch norm nor ReLU, as in the code
"""

_base_ = ['../_base_/finetune_graft.py', '../_base_/runtime.py', '../_base_/adamw_cosine.py']

max_epochs = 200
batch_size = 1022
base_lr = 3e-5  # per 256 images
default_hooks = dict(
    init=dict(type='mm_graft.LoadBackboneHook', checkpoint='checkpoints/graft_vit-b.pth.tar', projection='neck.layer'))
data_list = 'meta/10percent.txt'  # below the data's folder; `path label` lines, see mm_graft split

train_dataloader = dict(batch_size=146, dataset=dict(split='', data_prefix='train', ann_file=data_list))
model = dict(
    neck=dict(type='mm_graft.FirstProjection', in_channels=768, out_channels=4096),
    head=dict(in_channels=4096))

optim_wrapper = dict(
    optimizer=dict(lr=base_lr * batch_size / 256, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.75, custom_keys=dict(cls_token=dict(decay_mult=0.0))))
param_scheduler = dict(warmup=5, min_ratio=1e-6 / (base_lr * batch_size / 256))
train_cfg = dict(max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=batch_size)
