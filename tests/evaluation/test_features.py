import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from mm_graft.evaluation.features import backbone_of, encode, extract_features, labels_of


def vit(tiny_arch, **kwargs):
    return MODELS.build(
        {'type': 'mmpretrain.VisionTransformer', 'arch': tiny_arch, 'img_size': 32, 'patch_size': 16, **kwargs})


def mae(tiny_arch):
    return MODELS.build({
        'type': 'mmpretrain.MAE',
        'data_preprocessor': {'type': 'mmpretrain.SelfSupDataPreprocessor', 'mean': [128.0] * 3, 'std': [64.0] * 3},
        'backbone': {'type': 'mmpretrain.MAEViT', 'arch': tiny_arch, 'img_size': 32, 'patch_size': 16},
        'neck': {'type': 'mmpretrain.MAEPretrainDecoder', 'num_patches': 4, 'embed_dim': 16, 'decoder_embed_dim': 8,
                 'decoder_depth': 1, 'decoder_num_heads': 2},
        'head': {'type': 'mmpretrain.MAEPretrainHead', 'patch_size': 16,
                 'loss': {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'}}})


def host_batches(count=5, size=2):
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i % 3) for i in range(count)]
    return images, [{'inputs': list(images[i:i + size]), 'data_samples': samples[i:i + size]}
                    for i in range(0, count, size)]


def test_pools_are_the_class_token_and_the_mean_patch_after_the_final_norm(tiny_arch):
    raw = vit(tiny_arch, out_type='raw')
    raw.eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = raw(images)[-1]
    torch.testing.assert_close(encode(raw, images, 'cls'), tokens[:, 0])
    torch.testing.assert_close(encode(raw, images, 'avg'), tokens[:, 1:].mean(1))
    assert raw.out_type == 'raw'


def test_masked_pretraining_model_gives_features_of_whole_images_in_eval_mode(tiny_arch):
    model = mae(tiny_arch).train()
    images, batches = host_batches()
    features, labels = extract_features(model, batches, progress=False)
    again, _ = extract_features(model, batches, progress=False)
    assert features.shape == (5, 16)
    assert labels.tolist() == [0, 1, 2, 0, 1]
    assert (features == again).all()
    assert model.backbone.training
    model.backbone.eval()
    direct = encode(model.backbone, (images.float() - 128) / 64)
    torch.testing.assert_close(features, direct, rtol=1e-4, atol=1e-5)


def test_pairs_of_images_and_labels_will_do_for_a_bare_backbone(tiny_arch):
    images = torch.randn(4, 3, 32, 32)
    features, labels = extract_features(vit(tiny_arch), [(images, torch.arange(4))], 'avg', progress=False)
    assert features.shape == (4, 16)
    assert labels.tolist() == [0, 1, 2, 3]


def test_feature_maps_without_class_token_can_only_be_averaged():
    class Maps(nn.Module):
        def forward(self, x):
            return (x,)

    images = torch.randn(2, 5, 4, 4)
    torch.testing.assert_close(encode(Maps(), images, 'avg'), images.mean((2, 3)))
    with pytest.raises(ValueError, match="pool='avg'"):
        encode(Maps(), images, 'cls')


def test_bad_input_is_named(tiny_arch):
    model = vit(tiny_arch)
    with pytest.raises(ValueError, match='unknown'):
        encode(model, torch.randn(1, 3, 32, 32), 'max')
    with pytest.raises(ValueError, match='no class token'):
        encode(vit(tiny_arch, with_cls_token=False, out_type='featmap'), torch.randn(1, 3, 32, 32), 'cls')
    with pytest.raises(ValueError, match='no images'):
        extract_features(model, [], progress=False)
    with pytest.raises(ValueError, match=r'no labels.*--cfg-options train_dataloader\.dataset\.with_label=True'):
        labels_of([DataSample()])
    two_views = {'inputs': [[torch.zeros(3, 32, 32)] * 2], 'data_samples': [DataSample().set_gt_label(0)]}
    with pytest.raises(ValueError, match='several views'):
        extract_features(model, [two_views], progress=False)


def test_backbone_is_found_in_an_algorithm_or_is_the_model(tiny_arch):
    model = mae(tiny_arch)
    assert backbone_of(model) is model.backbone
    assert backbone_of(model.backbone) is model.backbone
