"""Every config parses, builds with small widths, and makes one finite step with gradients where they belong."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample

import mm_graft  # noqa: F401 - lets `_base_ = 'mmseg::…'` be found

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)
TINY_WIDTH = 24
# published widths and hidden sizes → small ones, wherever they stand in a model
SMALLER = {384: TINY_WIDTH, 768: TINY_WIDTH, 1024: TINY_WIDTH, 1536: 48, 3072: 48, 4096: 48, 512: 32, 256: 24, 2048: 48,
           8192: 48}
LAYERS = {'s': 12, 'b': 12, 'l': 24}
WIDTHS = ('embed_dims', 'embed_dim', 'in_channels', 'hid_channels', 'out_channels', 'channels', 'decoder_embed_dim',
          'decoder_embed_dims', 'embed_dims_per_scale')


def shrink(node: object, key: str = '') -> object:
    """The same model with small widths; depths, image sizes and everything else stay."""
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained':
            return None
        return {name: shrink(value, name) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(shrink(value, key) for value in node)
    if key == 'arch' and isinstance(node, str):
        layers = LAYERS[node.removeprefix('deit-').removeprefix('mocov3-')[0]]
        return dict(embed_dims=TINY_WIDTH, num_layers=layers, num_heads=2, feedforward_channels=48)
    if key in ('mim_checkpoint', 'pretrained'):
        return None
    if key in WIDTHS and isinstance(node, int):
        return SMALLER.get(node, node)
    return node


def shrink_swin(model: dict) -> dict:
    """Swin's widths stand in too many places; its depth goes down instead."""
    backbone = {**model['backbone'], 'arch': dict(embed_dims=128, depths=[2, 2, 2, 2], num_heads=[4, 8, 16, 32])}
    return {**model, 'backbone': backbone}


def image_size(cfg: Config) -> int:
    for step in cfg.train_dataloader.dataset.get('pipeline', []):
        if step['type'] in ('RandomResizedCrop', 'RandomCrop'):
            size = step.get('scale') or step.get('crop_size')
            return size if isinstance(size, int) else size[0]
    return cfg.model.backbone.get('img_size', 224)


def make_batch(cfg: Config) -> dict:
    """A batch of random images, as the loader of this config would give it."""
    size, channels = image_size(cfg), cfg.model.backbone.get('in_channels', 3)
    channels = cfg.model.backbone.get('patch_cfg', {}).get('in_channels', channels)
    images = torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8)
    steps = [step['type'] for step in cfg.train_dataloader.dataset.get('pipeline', [])]
    if cfg.default_scope == 'mmseg':
        from mmseg.structures import SegDataSample
        samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 3, (1, size, size)))) for _ in images]
        return {'inputs': list(images), 'data_samples': samples}
    samples = [DataSample().set_gt_label(index % 2) for index in range(len(images))]
    if 'SimMIMMaskGenerator' in steps:
        for sample in samples:
            sample.mask = (torch.rand(size // 4, size // 4) < 0.6).int()
    if 'BEiTMaskGenerator' in steps:
        for sample in samples:
            sample.mask = (torch.rand(14, 14) < 0.4).int()
    if 'RandomResizedCropAndInterpolationWithTwoPic' in steps:
        return {'inputs': [images, images[..., ::2, ::2]], 'data_samples': samples}
    if 'MultiView' in steps:
        views = sum(cfg.train_dataloader.dataset.pipeline[steps.index('MultiView')]['num_views'])
        return {'inputs': [images, images.flip(-1), images.flip(-2)][:views], 'data_samples': samples}
    return {'inputs': images, 'data_samples': samples}


def build(path: Path) -> tuple[Config, torch.nn.Module, object]:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    model = shrink_swin(model) if 'Swin' in model['backbone']['type'] else shrink(model)
    if 'data_preprocessor' in cfg and not model.get('data_preprocessor'):
        model['data_preprocessor'] = cfg.data_preprocessor
    model = MODELS.build(ConfigDict(model))
    model.init_weights()
    if hasattr(model, 'momentum_encoder'):
        model.momentum_encoder.max_iters = 10
    settings = {**cfg.optim_wrapper, 'type': 'OptimWrapper', 'accumulative_counts': 1}  # bf16 is slow on CPUs
    settings.pop('loss_scale', None)
    optim_wrapper = build_optim_wrapper(model, settings)
    return cfg, model.train(), optim_wrapper


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT / 'configs')))
def test_a_config_makes_one_finite_step(path):
    cfg, model, optim_wrapper = build(path)
    for scheduler in cfg.param_scheduler if isinstance(cfg.param_scheduler, list) else [cfg.param_scheduler]:
        end = cfg.train_cfg.get('max_epochs', 100)
        PARAM_SCHEDULERS.build({'end': end, **scheduler}, default_args=dict(optimizer=optim_wrapper, epoch_length=10))
    for group in optim_wrapper.optimizer.param_groups:
        group['lr'] = 1e-3
    trained = {name: parameter for name, parameter in model.named_parameters()
               if parameter.requires_grad and not name.startswith('target_generator.')}  # the host leaves BEiT's free
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with optim_wrapper.optim_context(model):
        data = model.data_preprocessor(make_batch(cfg), True)
        loss, _ = model.parse_losses(model._run_forward(data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    without = [name for name, parameter in trained.items() if parameter.grad is None]
    assert not without
    assert all(torch.isfinite(parameter.grad).all() for parameter in trained.values())
    assert all(parameter.grad is None for name, parameter in model.named_parameters() if name not in trained)
    optim_wrapper.step()
    moved = [name for name, parameter in trained.items() if not torch.equal(parameter, before[name])]
    assert len(moved) > 0.5 * len(trained)
    for name, parameter in model.named_parameters():
        if name not in trained and not name.startswith(('momentum_encoder', 'teacher')):
            assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize('path', sorted((ROOT / 'configs' / 'cifar10').glob('*.py')), ids=lambda path: path.stem)
def test_the_small_size_of_a_config_makes_one_finite_step(path, monkeypatch):
    monkeypatch.setenv('CIFAR10_SCALE', 'cpu')
    assert Config.fromfile(path).model.backbone.arch.num_layers == 6
    test_a_config_makes_one_finite_step(path)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT / 'configs')))
def test_a_config_says_what_it_is_for(path):
    header = path.read_text().split('"""')[1]
    assert 'Command:' in header
    assert 'Devices:' in header
    assert str(path.relative_to(ROOT)) in header
