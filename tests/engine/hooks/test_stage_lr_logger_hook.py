import json

import pytest
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mm_graft.engine.hooks.stage_lr_logger_hook import StageLRLoggerHook, absent_groups, group_name
from tests.tiny import grafted_mocov3, settings


class FreezeFirstStage(Hook):
    """Freezes the class token at the third step, and the rest of the first stage at the fourth."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = [group for group in runner.optim_wrapper.optimizer.param_groups if group.get('stage') == 1]
        for group in groups:
            for name, parameter in zip(group['param_names'], group['params']):
                if batch_idx == 3 or (batch_idx == 2 and 'cls_token' in name):
                    parameter.requires_grad_(False)


class Rates(Hook):
    """Notes what the optimizer uses."""

    priority = 'LOWEST'

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append({group['stage']: group['lr'] for group in runner.optim_wrapper.optimizer.param_groups
                          if 'stage' in group})


def train(folder, interval=1, hooks=(), **kwargs):
    runner = Runner(**settings(
        grafted_mocov3(), folder, **{
            'custom_hooks': [dict(type='mm_graft.StageLRLoggerHook', interval=interval)],
            'param_scheduler': dict(type='mm_graft.WarmupCosineLR', warmup=1, end=4, by_epoch=False),
            'visualizer': dict(type='UniversalVisualizer', vis_backends=[
                dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])} | kwargs))
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    lines = next(folder.glob('*/vis_data/scalars.json')).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_stages_rate_is_logged_as_the_optimizer_uses_it(tmp_path):
    rates = Rates()
    logged = train(tmp_path / 'run', hooks=[rates])
    assert len(logged) == len(rates.seen) == 4
    for line, seen in zip(logged, rates.seen):
        assert (line['stage1_lr'], line['stage2_lr']) == pytest.approx((seen[1], seen[2]))
        assert line['stage2_lr'] == pytest.approx(10 * line['stage1_lr'])
    events = EventAccumulator(str(next((tmp_path / 'run').glob('*/vis_data'))))
    events.Reload()
    for stage in (1, 2):
        assert [event.value for event in events.Scalars(f'stage{stage}_lr')] == pytest.approx(
            [seen[stage] for seen in rates.seen], rel=1e-6)


def test_the_frozen_share_of_a_stage_is_logged_once_it_has_one(tmp_path):
    logged = train(tmp_path / 'run', hooks=[FreezeFirstStage()])
    assert 'stage1_frozen' not in logged[1]
    assert logged[2]['stage1_frozen'] == pytest.approx(1 / 25)  # class token and two blocks of twelve tensors
    assert logged[3]['stage1_frozen'] == 1
    assert not any('stage2_frozen' in line for line in logged)


@pytest.mark.parametrize(('paramwise_cfg', 'frozen', 'trained'), [
    (dict(stage_lr_mult=[0., 1.]), ['stage1'], ['stage2']),
    (dict(stage_lr_mult=[1., 0.]), ['stage2'], ['stage1']),
    (dict(stage_lr_mult=[0., 1.], by_depth=True), [f'depth0{i}' for i in (0, 1, 2)], [f'depth0{i}' for i in (3, 4, 5)]),
])
def test_what_a_multiplier_of_0_keeps_out_of_the_optimizer_is_logged_as_frozen(
        tmp_path, paramwise_cfg, frozen, trained):
    for line in train(tmp_path / 'run', paramwise_cfg=paramwise_cfg):
        assert all(line[f'{name}_lr'] == 0 and line[f'{name}_frozen'] == 1 for name in frozen)
        assert not any(f'{name}_frozen' in line for name in trained)
        rates = {name for name in line if name.endswith('_lr')}
        assert rates == {'base_lr', *(f'{name}_lr' for name in frozen + trained)}


@pytest.mark.parametrize(('interval', 'written'), [(1, [0, 1, 2, 3, 4]), (2, [1, 3]), (5, [4])])
def test_an_interval_of_its_own_is_kept(interval, written):
    hook, calls = StageLRLoggerHook(interval=interval), []
    hook._groups = lambda wrapper: calls.append(wrapper) or {}
    for batch in range(5):
        hook.before_train_iter(type('Runner', (), {'optim_wrapper': batch}), batch)
    assert calls == written


@pytest.mark.parametrize(('logger', 'lines'), [
    (dict(interval=1), 8), (dict(interval=3), 2), (dict(interval=3, ignore_last=False), 4), (dict(interval=100), 2)])
def test_each_line_of_the_log_has_the_rates_of_its_own_iteration(tmp_path, logger, lines):
    rates = Rates()
    logged = train(tmp_path / 'run', None, [rates], epochs=2,
                   default_hooks=dict(logger=dict(type='LoggerHook', **logger)),
                   param_scheduler=dict(type='mm_graft.WarmupCosineLR', warmup=1, end=8, by_epoch=False))
    assert len(logged) == lines
    for line in logged:
        seen = rates.seen[line['step'] - 1]
        assert (line['stage1_lr'], line['stage2_lr']) == pytest.approx((seen[1], seen[2]))


def test_of_absent_depths_none_is_forgotten_and_none_invented():
    depths = [f'depth{depth:02d}' for depth in range(6)]
    group = {'depth': 2, 'num_blocks': 4}
    assert absent_groups({'depth02': [group]}) == [depth for depth in depths if depth != 'depth02']
    assert absent_groups({depth: [group] for depth in depths}) == []
    assert absent_groups({'stage2': [{'stage': 2, 'num_stages': 3}]}) == ['stage1', 'stage3']
    assert absent_groups({}) == []


def test_groups_are_called_by_depth_then_stage():
    assert group_name({'depth': 3, 'stage': 1}) == 'depth03'
    assert group_name({'depth': 0}) == 'depth00'
    assert group_name({'depth': None, 'stage': 2}) == 'stage2'
    assert group_name({'lr': 1.0}) is None


def test_depths_are_logged_if_groups_are_by_depth(tmp_path):
    logged = train(tmp_path / 'run', paramwise_cfg=dict(by_depth=True))
    assert [key for key in logged[0] if key.startswith('depth')] == [f'depth{depth:02d}_lr' for depth in range(6)]


def test_an_optimizer_without_stages_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"finds no stages.*mm_graft\.GraftOptimWrapperConstructor"):
        train(tmp_path / 'run', optim_wrapper=dict(optimizer=dict(type='AdamW')))


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match='interval=0 counts iterations'):
        StageLRLoggerHook(interval=0)
