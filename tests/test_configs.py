"""Every config parses, builds with small widths, and makes one finite step with gradients where they belong."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseAveragedModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, MODELS, PARAM_SCHEDULERS, TRANSFORMS, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmpretrain.structures import DataSample

import mm_graft.registry  # noqa: F401 - lets `_base_ = 'mmseg::…'` be found
from mm_graft.models.ema import CosineMomentumEMA
from tests.shrink import shrink, shrink_swin

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for pattern in ('configs/**/*.py', 'experiments/*/configs/*.py') for path in ROOT.glob(pattern)
                 if '_base_' not in path.parts and 'detection' not in path.parts)  # those need mmdet: tests/detection


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
    samples = [DataSample(metainfo=dict(sample_idx=index)).set_gt_label(index % 2) for index in range(len(images))]
    if 'SimMIMMaskGenerator' in steps:
        for sample in samples:
            sample.mask = (torch.rand(size // 4, size // 4) < 0.6).int()
    if 'BEiTMaskGenerator' in steps:
        for sample in samples:
            sample.mask = (torch.rand(14, 14) < 0.4).int()
    if 'RandomResizedCropAndInterpolationWithTwoPic' in steps:
        return {'inputs': [images, images[..., ::2, ::2]], 'data_samples': samples}
    if 'MultiView' in steps:
        step = cfg.train_dataloader.dataset.pipeline[steps.index('MultiView')]
        sizes = [next((part.scale for part in transforms if part.type == 'mm_graft.FastCrop'), size)
                 for views, transforms in zip(step.num_views, step.transforms) for _ in range(views)]
        views = [torch.randint(0, 256, (2, channels, size, size), dtype=torch.uint8) for size in sizes]
        return {'inputs': views, 'data_samples': samples}
    return {'inputs': images, 'data_samples': samples}


@pytest.mark.parametrize('path', [path for path in CONFIGS if re.search(r'\d+xb\d+', path.name)],
                         ids=lambda path: path.stem)
def test_the_rate_is_stated_for_the_batch_that_the_name_says(path):
    devices, images = map(int, re.search(r'(\d+)xb(\d+)', path.name).groups())
    cfg = Config.fromfile(path)
    assert cfg.auto_scale_lr.base_batch_size == devices * images * cfg.optim_wrapper.get('accumulative_counts', 1)
    assert cfg.train_dataloader.batch_size == images


def small_model(cfg: Config) -> dict:
    """The model of a config in small widths."""
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    model = shrink_swin(model) if 'Swin' in model['backbone']['type'] else shrink(model)
    if 'data_preprocessor' in cfg and not model.get('data_preprocessor'):
        model['data_preprocessor'] = cfg.data_preprocessor
    return model


def build(source: Path | Config) -> tuple[Config, torch.nn.Module, object]:
    """A config with its model in small widths, and the optimizer around that."""
    cfg = Config.fromfile(source) if isinstance(source, Path) else source
    model = MODELS.build(ConfigDict(small_model(cfg)))
    model.init_weights()
    for average in model.modules():
        if isinstance(average, CosineMomentumEMA):
            average.max_iters = 10
    settings = {**cfg.optim_wrapper, 'type': 'OptimWrapper', 'accumulative_counts': 1}  # bf16 is slow on CPUs
    settings.pop('loss_scale', None)
    optim_wrapper = build_optim_wrapper(model, settings)
    return cfg, model.train(), optim_wrapper


def wrong_averages(model: torch.nn.Module, expected: dict | None = None) -> list[str]:
    """Tensors of averages that are not as expected: as in a state dict, or as what they follow."""
    wrong = []
    for path, average in model.named_modules():
        if not isinstance(average, CosineMomentumEMA):
            continue
        sources = [model.get_submodule(name).state_dict() for name in average.sources]
        for name, tensor in average.module.state_dict().items():
            index, _, rest = name.partition('.') if len(sources) > 1 else ('0', '', name)
            wanted = sources[int(index)][rest] if expected is None and sources else (expected or {}).get(
                f'{path}.module.{name}')
            if wanted is None or not torch.equal(tensor, wanted):
                wrong.append(f'{path}.module.{name}')
    return wrong


def test_every_average_starts_restarts_and_resumes_as_it_should():
    """After initialization, after a load of the encoder alone, and after a resume; one model of each kind."""
    offenders, seen = [], set()
    for path in CONFIGS:
        cfg = Config.fromfile(path)
        config = small_model(cfg)
        kind = (cfg.model.type, cfg.model.backbone.type, str(sorted(config)))
        if kind in seen:
            continue
        seen.add(kind)
        model = MODELS.build(ConfigDict(config))
        if not any(isinstance(module, CosineMomentumEMA) for module in model.modules()):
            continue
        other = MODELS.build(ConfigDict(config))
        model.init_weights()
        problems = {'init_weights': wrong_averages(model)}
        plain = {name: torch.randn_like(tensor) if tensor.is_floating_point() else tensor
                 for name, tensor in model.state_dict().items() if name.startswith('backbone.')}
        load_state_dict(model, plain)
        problems['load'] = wrong_averages(model)
        state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
        load_state_dict(other, state)
        problems['resume'] = wrong_averages(other, state)
        problems['steps'] = [name for name, module in other.named_modules()
                             if isinstance(module, CosineMomentumEMA) and module.steps != 1]
        offenders += [f'{path.name}: {when}: {names[:3]}' for when, names in problems.items() if names]
    assert not offenders
    assert {'mm_graft.ConMIM', 'mm_graft.GraftedMoCoV3', 'mm_graft.JointMIMCL', 'mm_graft.MIMRefiner'} <= {
        name for name, *_ in seen}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
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
    averaged = {f'{path}.{name}' for path, module in model.named_modules() if isinstance(module, BaseAveragedModel)
                for name, _ in module.named_parameters()}
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
    assert all(average.steps == 1 for average in model.modules() if isinstance(average, CosineMomentumEMA))
    moved = [name for name, parameter in trained.items() if not torch.equal(parameter, before[name])]
    assert len(moved) > 0.5 * len(trained)
    for name, parameter in model.named_parameters():
        if name not in trained and name not in averaged:
            assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_config_says_what_it_is_for(path):
    header = path.read_text().split('"""')[1]
    assert 'Command:' in header
    assert 'Devices:' in header
    assert str(path.relative_to(ROOT)) in header


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_hooks_and_data_of_a_config_are_known_with_all_their_settings(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    Visualizer.get_instance('configs')  # the host's drawing hooks ask for the current one
    for hook in [*cfg.get('default_hooks', {}).values(), *(cfg.get('custom_hooks') or [])]:
        HOOKS.build(hook)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset')
        while dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        if dataset:
            for step in dataset.get('pipeline', []):
                TRANSFORMS.build(step)
            DATASETS.build({**dataset, 'lazy_init': True})


def of_several_devices() -> list[Path]:
    return [path for path in CONFIGS if 'dist_train.sh' in path.read_text().split('"""')[1]]


@pytest.mark.parametrize('path', of_several_devices(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_config_for_several_devices_that_freezes_stages_does_not_wait_for_their_gradients(path):
    cfg = Config.fromfile(path)
    if 0 in (cfg.optim_wrapper.get('paramwise_cfg') or {}).get('stage_lr_mult', []):
        assert cfg.get('find_unused_parameters')


def test_the_rate_of_an_accumulating_config_scales_with_the_images_of_one_forward_pass():
    accumulating = [cfg for cfg in map(Config.fromfile, CONFIGS) if 'accumulative_counts' in cfg.optim_wrapper]
    assert len(accumulating) == 3
    for cfg in accumulating:
        images = cfg.batch_size // cfg.optim_wrapper.accumulative_counts
        assert cfg.auto_scale_lr.base_batch_size == images
        assert images % cfg.train_dataloader.batch_size == 0


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_config_says_by_which_keys_another_checkpoint_comes_in_where_it_stands_twice(path):
    cfg, header = Config.fromfile(path), path.read_text().split('"""')[1]
    for index, hook in enumerate(cfg.get('custom_hooks') or []):
        if hook['type'] == 'mm_graft.WeightAnchor':
            assert f'`custom_hooks.{index}.checkpoint`' in header
    if cfg.get('load_from') and cfg.model.backbone.get('init_cfg'):
        assert '`model.backbone.init_cfg.checkpoint`' in header
