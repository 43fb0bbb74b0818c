"""Values of the papers that are easily lost between a page and a run, read from what the configs and commands build."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS
from torch import nn

from mm_graft.analysis.param_table import build_on_meta
from mm_graft.analysis.schedule_plot import RunLength, build_schedulers
from mm_graft.commands.configs import load_config
from mm_graft.depth import depth_map
from mm_graft.evaluation.linear_probe import LinearProbeSettings
from tests.test_overrides import parse

FREEZEOUT = 'freezeout/localmim-freezeout_vit-base-p16_8xb256-amp-100e_in1k'
AS_CODED = ('param_scheduler.convention=vitfreeze_code optim_wrapper.paramwise_cfg.custom_keys=None '
            'optim_wrapper.optimizer.weight_decay=1e-5')
CENTER_OF_384 = [('ResizeEdge', 384, 'short'), ('CenterCrop', 384)]


class Built(NamedTuple):
    """A config, and the model and optimizer groups that a run of it would have."""

    cfg: Config
    model: nn.Module
    groups: list[dict]


class Value(NamedTuple):
    """What a paper says, where it is here, and how it is read."""

    says: str
    config: str
    override: str
    read: Callable[[Built], object]
    expected: object


def rates(built):
    return sorted({(round(group['lr'], 12), group['weight_decay']) for group in built.groups})


def trained_stages(built):
    return sorted({group['stage'] for group in built.groups})


def anchor(built):
    hook, = (hook for hook in built.cfg.custom_hooks if hook['type'] == 'mm_graft.WeightAnchor')
    return hook['weight'], hook['max_depth']


def size(built):
    return depth_map(built.model).num_blocks, built.model.backbone.embed_dims


def epochs(built):
    return built.cfg.train_cfg.max_epochs


def kept(built):
    return sorted(HOOKS.build(built.cfg.default_hooks.checkpoint).keep)


def start(built):
    return built.cfg.default_hooks.init.checkpoint


def behind_the_frozen_block(built):
    backbone, neck = built.model.backbone, built.model.neck
    return list(backbone.out_indices), backbone.final_norm, len(neck.blocks), sum(
        parameter.requires_grad for parameter in backbone.parameters())


def steps_of_a_test(built):
    steps = built.cfg.test_dataloader.dataset.pipeline[1:-1]
    return [(step.type, step.get('scale', step.get('crop_size')), *([step.edge] if 'edge' in step else []))
            for step in steps]


def stem_freezes(built):
    _, wrapper = build_on_meta(built.cfg)
    scheduler, = build_schedulers(built.cfg, wrapper, RunLength(100 * 1000, 1000))
    return round(scheduler.freeze_steps[0] / 1000, 1)


def decays(built):
    return sorted({group['weight_decay'] for group in built.groups})


def iterations(built):
    return built.cfg.train_cfg.max_iters, built.cfg.param_scheduler.warmup


def images(built):
    dataset = built.cfg.train_dataloader.dataset
    return dataset.type, dataset.data_root


VALUES = [
    Value('MoCo v3 alone has one rate and decays every parameter', 'graft/vit-b_mocov3', '', rates, [(2.4e-3, 0.1)]),
    Value('so does ViT-L', 'graft/vit-b_mocov3', 'model.backbone.arch=large model.neck.in_channels=1024', rates,
          [(2.4e-3, 0.1)]),
    Value('which is a ViT-L', 'graft/vit-b_mocov3', 'model.backbone.arch=large model.neck.in_channels=1024', size,
          (24, 1024)),
    Value('the graft has a tenth of the rate below, and nothing of one dimension decays', 'graft/vit-b_mae2mocov3', '',
          rates, [(2.4e-4, 0), (2.4e-4, 0.1), (2.4e-3, 0), (2.4e-3, 0.1)]),
    Value('of ViT-L too', 'graft/vit-l_mae2mocov3', '', rates,
          [(1.21875e-4, 0), (1.21875e-4, 0.1), (1.21875e-3, 0), (1.21875e-3, 0.1)]),
    Value('which is anchored', 'graft/vit-l_mae2mocov3', '', anchor, (1e-5, 12)),
    Value('or not', 'graft/vit-l_mae2mocov3', 'custom_hooks.1.weight=0', anchor, (0, 12)),
    Value('only the upper third trains above frozen blocks', 'graft/vit-b_mae2mocov3',
          'max_epochs=100 stage_lr_mult=[0,0,1] find_unused_parameters=True', trained_stages, [3]),
    Value('VICReg alone has one rate', 'graft/vit-b_mae2vicreg', 'stage_lr_mult=[1] max_epochs=100', rates,
          [(2.4e-3, 0), (2.4e-3, 0.1)]),
    Value('and 100 epochs', 'graft/vit-b_mae2vicreg', 'stage_lr_mult=[1] max_epochs=100', epochs, 100),
    Value('from random weights', 'graft/vit-b_mae2vicreg', 'default_hooks.init.checkpoint=None', start, None),
    Value('the conflict is measured at epochs 100, 200, 300', 'graft/vit-b_joint-mae-mocov3', '', kept,
          [100, 200, 300]),
    Value('new blocks stand behind a frozen one', 'eval/probe-depth_vit-b', '', behind_the_frozen_block,
          ([8], False, 1, 0)),
    Value('behind the last one too', 'eval/probe-depth_vit-b',
          'model.backbone.out_indices=[11] model.neck.num_blocks=2', behind_the_frozen_block, ([11], False, 2, 0)),
    Value('MAE of ViT-S has 800 epochs', 'graft/vit-b_mae',
          'max_epochs=800 model.backbone.arch=deit-small model.neck.embed_dim=384', epochs, 800),
    Value('and is a ViT-S', 'graft/vit-b_mae', 'model.backbone.arch=deit-small model.neck.embed_dim=384', size,
          (12, 384)),
    *(Value(f'{name} at 384 is tested on the center of a short edge of 384',
            'conmim/benchmarks/vit-p16_conmim-pre_amp-coslr_in1k-384px', f'size={name}', steps_of_a_test, CENTER_OF_384)
      for name in ('small', 'base', 'large')),
    Value('YFCC15M has 40 epochs', 'conmim/conmim_vit-base-p16_16xb128-amp-coslr-40e_yfcc15m', '', epochs, 40),
    Value('of its own images', 'conmim/conmim_vit-base-p16_16xb128-amp-coslr-40e_yfcc15m', '', images,
          ('mm_graft.ImageFolder', 'data/yfcc15m')),
    Value('by the text, the stem freezes after 51.2 of 100 epochs', FREEZEOUT, '', stem_freezes, 51.2),
    Value('in the code, after 56.1', FREEZEOUT, AS_CODED, stem_freezes, 56.1),
    Value('whose weight decay was 1e-5', FREEZEOUT, AS_CODED, decays, [0, 1e-5]),
    Value('pre-pretraining sees the images of the captions', 'wsp/vit-b_mae_captions', '', images,
          ('mm_graft.ImageFolder', 'data/captions/images')),
    Value('for a tenth of an epoch', 'wsp/vit-b_mae_captions', 'num_images=4096000 epochs=0.1', iterations, (100, 5)),
]


@pytest.mark.parametrize('value', VALUES, ids=lambda value: value.says)
def test_what_is_built_has_the_value_of_the_paper(value):
    cfg = load_config(value.config, parse(value.override.split()) if value.override else None)
    model, wrapper = build_on_meta(cfg)
    assert value.read(Built(cfg, model, wrapper.optimizer.param_groups)) == value.expected


def test_a_linear_probe_is_the_papers_70_heads_over_90_epochs():
    settings = LinearProbeSettings()
    assert (settings.epochs, settings.batch_size, len(settings.grid)) == (90, 4096, 70)
    assert {decay for _, decay in settings.grid} == {0, 1e-6}
    assert (min(settings.grid)[0], max(settings.grid)[0]) == (1e-5, 90)
