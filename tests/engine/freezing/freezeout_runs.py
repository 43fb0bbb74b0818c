"""Tiny runs with FreezeOut through the real Runner, shared by the tests of its hook."""

import copy
import logging
import tempfile

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

from mm_graft.registry import DATASETS

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}
PREPROCESSOR = dict(type='SelfSupDataPreprocessor', mean=[0., 0., 0.], std=[1., 1., 1.])


@DATASETS.register_module(force=True)
class NoiseImages(Dataset):
    """Images that are a function of their index."""

    def __init__(self, length=8, views=1, labels=False, size=32):
        self.length, self.views, self.labels, self.size = length, views, labels, size

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        views = [torch.rand(3, self.size, self.size, generator=generator) for _ in range(self.views)]
        sample = DataSample().set_gt_label(index % 2)
        return {'inputs': views[0] if self.views == 1 else views, 'data_samples': sample}


@HOOKS.register_module(force=True)
class SeedByIteration(Hook):
    """Draws masks and drop path from the iteration, as the host does not checkpoint the generator's state."""

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        torch.manual_seed(2 * runner.iter + runner.rank)


class Spy(Hook):
    """Calls ``look(runner)`` before and after each iteration's step; ``log`` is for what it returns."""

    priority = 'LOW'

    def __init__(self, look):
        self.look, self.log = look, []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.log.append(self.look(runner))


def mae(arch=None, **backbone):
    arch = arch or ARCH
    return dict(
        type='MAE', data_preprocessor=PREPROCESSOR,
        backbone=dict(type='MAEViT', arch=arch, img_size=32, patch_size=8, mask_ratio=0.5, **backbone),
        neck=dict(type='MAEPretrainDecoder', num_patches=16, patch_size=8, embed_dim=arch['embed_dims'],
                  decoder_embed_dim=8, decoder_depth=1, decoder_num_heads=2),
        head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=8,
                  loss=dict(type='PixelReconstructionLoss', criterion='L2')))


def classifier(**backbone):
    settings = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8, drop_rate=.1, drop_path_rate=.2)
    return dict(
        type='ImageClassifier', backbone=settings | backbone,
        head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16,
                  loss=dict(type='CrossEntropyLoss')))


def mlp(layers):
    return dict(type='NonLinearNeck', in_channels=16, hid_channels=16, out_channels=16, num_layers=layers,
                with_bias=False, with_last_bn=True, with_last_bn_affine=False, with_last_bias=False,
                with_avg_pool=False)


def moco(type_='MoCoV3', backbone='MoCoV3ViT', **kwargs):
    return dict(
        type=type_, data_preprocessor=PREPROCESSOR, neck=mlp(2), **kwargs,
        backbone=dict(type=backbone, arch=ARCH, img_size=32, patch_size=8, stop_grad_conv1=True),
        head=dict(type='MoCoV3Head', predictor=mlp(2), temperature=.2,
                  loss=dict(type='CrossEntropyLoss', loss_weight=.4)))


def localmim():
    return dict(
        type='mm_graft.LocalMIM', data_preprocessor=PREPROCESSOR,
        backbone=dict(type='mm_graft.VisiblePatchViT', arch=ARCH, img_size=32, patch_size=4, taps=(1, 2, 3, 4)),
        neck=dict(type='mm_graft.LocalMIMNeck', in_channels=16, grids=8, embed_dims=8, num_heads=2),
        target_generator=dict(type='mm_graft.HOGTarget', cells=(1, 2, 4, 8)), head=dict(type='mm_graft.LocalMIMHead'))


def conmim():
    return dict(
        type='mm_graft.ConMIM', data_preprocessor=PREPROCESSOR, neck=mlp(3),
        backbone=dict(type='mm_graft.ConMIMViT', arch=ARCH, img_size=32, patch_size=8),
        contrast=dict(type='mm_graft.DenoisingContrastLoss'), teacher=dict(momentum=0.9),
        mask_generator=dict(type='mm_graft.RandomCellMask', img_size=32, patch_size=8, cell_size=16))


def run_config(model, iterations=12, epochs=None, schedule=None, data=None, work_dir=None, **kwargs):
    """Config of a run over ``iterations`` steps in which the stem freezes at half time."""
    data = data or {}
    collate = 'pseudo_collate' if data.get('labels') else 'default_collate'
    schedule = dict(type='mm_graft.FreezeOutLR', by_epoch=False, t0=.5, schedule='linear', warmup=2) | (schedule or {})
    wrapper = kwargs.pop('optim_wrapper', {})
    sampler = dict(type='DefaultSampler' if epochs else 'InfiniteSampler', shuffle=True)
    return dict(
        model=model, work_dir=work_dir or tempfile.mkdtemp(), default_scope='mmpretrain', log_level=logging.ERROR,
        experiment_name=kwargs.pop('experiment_name', f'freezeout{next(COUNTER)}'),
        train_dataloader=dict(batch_size=4, num_workers=0, dataset={'type': 'mm_graft.NoiseImages', **data},
                              collate_fn=dict(type=collate), sampler=sampler),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs) if epochs else dict(
            type='IterBasedTrainLoop', max_iters=iterations),
        optim_wrapper=dict(
            constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=dict(by_depth=True),
            optimizer=dict(type='AdamW', lr=1e-2, weight_decay=.1)) | wrapper,
        param_scheduler=schedule,
        custom_hooks=[dict(type='SeedByIteration'), dict(type='mm_graft.FreezeOutHook')],
        default_hooks=dict(logger=None, checkpoint=kwargs.pop('checkpoint', None)),
        randomness=dict(seed=0), **kwargs)


def counter():
    value = 0
    while True:
        yield value
        value += 1


COUNTER = counter()


def make_runner(model, hooks=(), **kwargs):
    runner = Runner.from_cfg(Config(run_config(copy.deepcopy(model), **kwargs)))
    for hook in hooks:
        runner.register_hook(hook)
    return runner
