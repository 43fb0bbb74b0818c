"""Every config parses, builds with small widths, and makes one finite step with gradients where they belong."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseAveragedModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, MODELS, PARAM_SCHEDULERS, TRANSFORMS, Registry, init_default_scope
from mmengine.runner.checkpoint import load_state_dict
from mmengine.visualization import Visualizer

import mm_graft.registry  # noqa: F401 - lets `_base_ = 'mmseg::…'` be found
from benchmarks.batch import image_channels, image_size, random_batch
from mm_graft.models.ema import CosineMomentumEMA
from tests.shrink import small

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for pattern in ('configs/**/*.py', 'experiments/*/configs/*.py') for path in ROOT.glob(pattern)
                 if '_base_' not in path.parts and 'detection' not in path.parts)  # those need mmdet: tests/detection


HEADERS = {path: path.read_text().split('"""')[1] for path in CONFIGS}
SIDE = 128  # of the images that segmentation models take here


@cache
def read(path: Path) -> Config:
    """A config as it stands; not to be changed."""
    return Config.fromfile(path)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def make_batch(cfg: Config, model: torch.nn.Module) -> dict:
    """Two random images, as the loader of this config would give them."""
    size = (SIDE, SIDE) if cfg.default_scope == 'mmseg' else image_size(cfg)
    return random_batch(cfg, 2, size, image_channels(model.backbone))


def small_model(cfg: Config) -> dict:
    """The model of a config in small widths."""
    init_default_scope(cfg.default_scope)
    model = small(cfg.model.to_dict())
    if 'data_preprocessor' in cfg and not model.get('data_preprocessor'):
        model['data_preprocessor'] = cfg.data_preprocessor
    if cfg.default_scope == 'mmseg':
        model['data_preprocessor']['size'] = (SIDE, SIDE)
        model['backbone']['img_size'] = SIDE
    return model


def build(source: Path | Config) -> tuple[Config, torch.nn.Module, object]:
    """A config with its model in small widths, and the optimizer around that."""
    cfg = Config.fromfile(source) if isinstance(source, Path) else source
    model = MODELS.build(ConfigDict(small_model(cfg)))
    model.init_weights()
    for module in model.modules():
        if hasattr(module, 'max_iters'):  # averages and schedules, which a Runner would tell
            module.max_iters = 10
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
        cfg = read(path)
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
    assert {'mm_graft.ConMIM', 'mm_graft.GraftedMoCoV3', 'mm_graft.JointMIMCL', 'mm_graft.MIMRefiner',
            'mm_graft.SelfDistillation'} <= {
        name for name, *_ in seen}


@pytest.mark.parametrize('path', CONFIGS, ids=named)
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
        data = model.data_preprocessor(make_batch(cfg, model), True)
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


def test_every_header_names_command_devices_and_the_config_itself():
    wanted = {path: ('Command:', 'Devices:', named(path)) for path in CONFIGS}
    assert [(named(path), part) for path in CONFIGS for part in wanted[path] if part not in HEADERS[path]] == []


def parts(cfg: Config) -> Iterator[tuple[Registry, dict]]:
    """Hooks, transforms and data sets of a config, with the registries that build them."""
    yield from ((HOOKS, hook) for hook in [*cfg.get('default_hooks', {}).values(), *(cfg.get('custom_hooks') or [])])
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset = (cfg.get(name) or {}).get('dataset')
        while dataset and 'dataset' in dataset:
            dataset = dataset['dataset']
        if dataset:
            yield from ((TRANSFORMS, step) for step in dataset.get('pipeline', []))
            yield DATASETS, {**dataset, 'lazy_init': True}


def test_hooks_and_data_are_known_with_all_their_settings():
    offenders = []
    for path in CONFIGS:
        init_default_scope(read(path).default_scope)
        Visualizer.get_instance('configs')  # the host's drawing hooks ask for the current one
        for registry, part in parts(read(path)):
            try:
                registry.build(part)
            except Exception as error:
                offenders.append(f'{named(path)}: {part["type"]}: {error}')
    assert offenders == []


def test_the_learning_rate_is_for_the_batch_that_the_name_and_the_config_say():
    wrong = []
    for path in CONFIGS:
        cfg = read(path)
        base = cfg.get('auto_scale_lr', {}).get('base_batch_size')
        steps = cfg.optim_wrapper.get('accumulative_counts', 1)
        if stated := re.search(r'(\d+)xb(\d+)', path.name):
            devices, images = map(int, stated.groups())
            if (base, cfg.train_dataloader.batch_size) != (devices * images * steps, images):
                wrong.append(named(path))
        if 'batch_size' in cfg and base not in (None, cfg.batch_size):
            wrong.append(named(path))
    assert wrong == []


def test_what_freezes_stages_on_several_devices_does_not_wait_for_their_gradients():
    freezing = [path for path in CONFIGS if 'dist_train.sh' in HEADERS[path]
                and 0 in (read(path).optim_wrapper.get('paramwise_cfg') or {}).get('stage_lr_mult', [])]
    assert freezing
    assert [named(path) for path in freezing if not read(path).get('find_unused_parameters')] == []


def test_a_header_names_the_keys_of_a_checkpoint_that_is_given_twice():
    missing = []
    for path in CONFIGS:
        cfg = read(path)
        keys = [f'`custom_hooks.{index}.checkpoint`' for index, hook in enumerate(cfg.get('custom_hooks') or [])
                if hook['type'] == 'mm_graft.WeightAnchor' and 'checkpoint' in hook]
        if cfg.get('load_from') and cfg.model.backbone.get('init_cfg'):
            keys.append('`model.backbone.init_cfg.checkpoint`')
        missing += [(named(path), key) for key in keys if key not in HEADERS[path]]
    assert missing == []
