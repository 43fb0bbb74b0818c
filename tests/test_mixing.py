"""Our parts in other projects' own configs: each runs a few real steps of a small model, with hooks and schedule."""

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from benchmarks.batch import image_size, random_batch
from mm_graft.analysis.param_table import build_on_meta, parameter_table
from mm_graft.checkpoints import Origin, convert_file
from mm_graft.engine.schedulers.freezeout import FreezeOutLR
from tests.shrink import shrink, shrink_swin

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs' / 'mixing').glob('*.py'))
STEPS = 3


class Samples(torch.utils.data.Dataset):
    """A few random samples, as the config's own pipeline would give them."""

    def __init__(self, cfg):
        batches = [random_batch(cfg, 2, image_size(cfg), 3) for _ in range(STEPS)]
        self.samples = [self.one(batch, index, cfg.default_scope) for batch in batches for index in range(2)]

    @staticmethod
    def one(batch, index, scope):
        inputs = batch['inputs']
        views = isinstance(inputs, list) and scope != 'mmseg'
        return {'inputs': [view[index] for view in inputs] if views else inputs[index],
                'data_samples': batch['data_samples'][index]}

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def small(name, tmp_path):
    """A config with a small model, no data of its own and few steps; the rest is as the file says."""
    cfg = Config.fromfile(ROOT / 'configs' / 'mixing' / f'{name}.py')
    init_default_scope(cfg.default_scope)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step['type'] == 'RandomCrop':
            step['crop_size'] = (64, 64)
    data = Samples(cfg)
    model = cfg.model.to_dict()
    model = shrink_swin(model) if 'Swin' in model['backbone']['type'] else shrink(model)
    if cfg.default_scope == 'mmseg':
        model['data_preprocessor']['size'] = (64, 64)
    schedules = [{**schedule, 'warmup': 1, 'convert_to_iter_based': False, 'by_epoch': False, 'end': STEPS}
                 if schedule['type'].startswith('mm_graft.') else schedule for schedule in cfg.param_scheduler]
    optim_wrapper = {**cfg.optim_wrapper, 'type': 'OptimWrapper'}
    optim_wrapper.pop('loss_scale', None)
    seg = cfg.default_scope == 'mmseg'
    return dict(
        model=model, work_dir=str(tmp_path / 'run'), data_preprocessor=cfg.get('data_preprocessor'),
        train_dataloader=dict(batch_size=2, num_workers=0, dataset=data, drop_last=True,
                              sampler=dict(type='DefaultSampler', shuffle=False),
                              collate_fn=dict(type='pseudo_collate' if seg else 'default_collate')),
        optim_wrapper=optim_wrapper, param_scheduler=schedules, custom_hooks=cfg.get('custom_hooks', []),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=STEPS), default_scope=cfg.default_scope,
        log_level='INFO', randomness=dict(seed=0), default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            **({'init': cfg.default_hooks.init} if 'init' in cfg.get('default_hooks', {}) else {})),
        experiment_name=f'{name}_{tmp_path.name}')


def run(settings):
    """Train; returns the runner and the lines of its log."""
    runner = Runner(**settings)
    runner.train()
    return runner, Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


def mae_of_the_same_size(settings, path):
    """A checkpoint that fits the small ViT, in the layout of MAE's authors."""
    source = MODELS.build(dict(type='mmpretrain.VisionTransformer', img_size=224, patch_size=16,
                               arch=settings['model']['backbone']['arch']))
    tensors = {f'backbone.{name}': torch.randn_like(tensor) / 10 for name, tensor in source.state_dict().items()}
    torch.save({'state_dict': tensors}, path.with_suffix('.host'))
    convert_file(Origin(path.with_suffix('.host')), path, 'mae')
    return str(path)


def trained(runner, log):
    """Loss is finite in every step."""
    losses = [float(value) for value in re.findall(r'\s+loss: (\S+)', log)]
    assert len(losses) == STEPS
    assert all(map(math.isfinite, losses))
    return runner.model


def frozen_names(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_each_file_inherits_another_projects_config_and_is_explained(path):
    assert re.search(r"^_base_ = '(mmpretrain|mmseg)::", path.read_text(), re.MULTILINE)
    assert path.name in (ROOT / 'docs' / 'mixing.md').read_text()
    assert f'test_{path.stem.replace("-", "_")}' in globals()


@pytest.mark.parametrize('name', ['beit_vit-base_stage-lr', 'vit-base_upernet_freezeout'])
def test_the_table_of_parameters_is_drawn_for_them_at_full_size(name):
    table = parameter_table(*build_on_meta(Config.fromfile(ROOT / 'configs' / 'mixing' / f'{name}.py')))
    assert {row['depth'] for row in table} == set(range(14))


def test_simmim_swin_base_freezeout(tmp_path):
    model = trained(*run(small('simmim_swin-base_freezeout', tmp_path)))
    frozen = frozen_names(model)
    assert {'backbone.patch_embed.projection.weight', 'backbone.mask_token'} <= frozen
    assert any(name.startswith('backbone.stages.0.') for name in frozen)
    assert not any(name.startswith('backbone.stages.3.') for name in frozen)


def test_vit_base_upernet_freezeout(tmp_path):
    runner, log = run(small('vit-base_upernet_freezeout', tmp_path))
    frozen = frozen_names(trained(runner, log))
    assert {'backbone.cls_token', 'backbone.pos_embed', 'backbone.patch_embed.projection.weight'} <= frozen
    assert not any(name.startswith(('backbone.layers.11.', 'decode_head.')) for name in frozen)
    assert isinstance(runner.param_schedulers[0], FreezeOutLR)


def test_beit_vit_base_stage_lr(tmp_path):
    runner, log = run(small('beit_vit-base_stage-lr', tmp_path))
    trained(runner, log)
    rates = {group['stage']: group['lr'] for group in runner.optim_wrapper.optimizer.param_groups if 'stage' in group}
    assert rates[1] == pytest.approx(0.1 * rates[3])
    assert rates[2] == pytest.approx(rates[3])
    undecayed = {name for group in runner.optim_wrapper.optimizer.param_groups if group['weight_decay'] == 0
                 for name in group.get('param_names', [])}
    assert {'backbone.cls_token', 'backbone.layers.5.gamma_1', 'backbone.layers.5.ln1.weight'} <= undecayed


def test_vit_base_finetune_anchored(tmp_path):
    settings = small('vit-base_finetune_anchored', tmp_path)
    checkpoint = mae_of_the_same_size(settings, tmp_path / 'mae.pth')
    settings['default_hooks']['init']['checkpoint'] = checkpoint
    settings['custom_hooks'][0]['weight'], settings['param_scheduler'] = 10.0, []  # to be seen in so few steps
    runner, log = run(settings)
    trained(runner, log)
    anchors = [float(value) for value in re.findall(r'loss_anchor: (\S+)', log)]
    assert anchors[0] == 0  # it starts at the anchor
    assert anchors[-1] > 0


def test_simmim_swin_base_localmim_neck(tmp_path):
    model = trained(*run(small('simmim_swin-base_localmim-neck', tmp_path)))
    assert type(model.neck).__name__ == 'LocalMIMDenseNeck'
    assert not frozen_names(model) - {name for name, _ in model.target_generator.named_parameters()}


def test_vit_base_upernet_conflict(tmp_path):
    _, log = run(small('vit-base_upernet_conflict', tmp_path))
    pattern = r'conflict of decode.loss_ce and aux.loss_ce: cosine (\S+) to (\S+), negative in \d+ of (\d+)'
    match = re.search(pattern, log)
    low, high, blocks = match.groups()
    assert -1 <= float(low) <= float(high) <= 1
    assert int(blocks) == 12
