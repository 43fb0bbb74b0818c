"""Schedules as drawn: the rates are those of the run, equal rates share a line, freezing points are marked."""

import pytest
from mmengine.config import Config

from mm_graft.analysis import schedule_plot
from mm_graft.analysis.schedule_plot import RunLength, SimulatedRun, draw, run_length, simulate

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}


def config(paramwise_cfg, param_scheduler, **train_cfg):
    return Config(dict(
        model=dict(type='ImageClassifier',
                   backbone=dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8),
                   head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16)),
        optim_wrapper=dict(type='AmpOptimWrapper', optimizer=dict(type='AdamW', lr=1.),
                           constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=paramwise_cfg),
        param_scheduler=param_scheduler, train_cfg=train_cfg or dict(by_epoch=True, max_epochs=10)))


FREEZEOUT = config(dict(by_depth=True), dict(type='mm_graft.FreezeOutLR', warmup=1, t0=.5, schedule='linear',
                                             convert_to_iter_based=True))
STAGES = config(dict(stage_lr_mult=[.1, .1, 1., 1.]), [
    dict(type='LinearLR', start_factor=.5, end=2, by_epoch=True),
    dict(type='CosineAnnealingLR', begin=2, T_max=8, by_epoch=True)])


def test_every_depth_has_its_rate_and_freezing_point():
    run = simulate(FREEZEOUT, iters_per_epoch=20)
    assert set(run.rates) == {f'depth {depth}' for depth in range(6)}
    assert run.frozen_at == pytest.approx({0: 5.05, 1: 6.3, 2: 7.55, 3: 8.8})
    for depth, frozen in run.frozen_at.items():
        rates = run.rates[f'depth {depth}']
        assert all((rate > 0) == (0 < time < frozen - .06) for time, rate in zip(run.times, rates)
                   if abs(time - frozen) > .06)


def test_stages_keep_their_multipliers_and_the_schedulers_of_the_host_work_by_epoch():
    run = simulate(STAGES, iters_per_epoch=5)
    assert run.frozen_at == {}
    assert run.rates['stage 1'] == pytest.approx([rate / 10 for rate in run.rates['stage 4']])
    assert run.rates['stage 4'][:12] == pytest.approx([.5] * 5 + [1.] * 7)
    assert run.rates['stage 4'][-1] < .1


def test_a_run_counted_in_iterations_has_its_own_axis():
    cfg = config(dict(stage_lr_mult=[1.]), None, by_epoch=False, max_iters=30)
    run = simulate(cfg)
    assert (run.length.unit, run.times[-1]) == ('iteration', 29)
    assert run.rates['stage 1'] == [1.] * 30


def test_the_length_of_an_epoch_moves_no_freezing_point_by_more_than_an_iteration():
    coarse, fine = simulate(FREEZEOUT, 10), simulate(FREEZEOUT, 30)
    assert coarse.frozen_at == pytest.approx(fine.frozen_at, abs=.11)


def test_groups_of_equal_rates_share_a_line():
    axes = draw(simulate(STAGES, iters_per_epoch=2), 'stages').axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ['stage 1, stage 2', 'stage 3, stage 4']


def test_freezing_points_are_dots_and_stand_in_the_legend():
    axes = draw(simulate(FREEZEOUT, iters_per_epoch=20), 'a title').axes[0]
    dots = [line for line in axes.lines if line.get_marker() == 'o']
    assert [dot.get_xdata()[0] for dot in dots] == pytest.approx([5.05, 6.3, 7.55, 8.8])
    assert axes.get_legend().get_texts()[0].get_text() == 'depth 0, frozen at 5.05'
    assert axes.get_title(loc='left') == 'a title'
    assert axes.get_xlabel() == 'epoch'


def test_what_follows_the_global_cosine_is_dashed():
    cfg = config(dict(by_depth=True, custom_keys={'patch_embed': dict(global_rate=True)}),
                 dict(type='mm_graft.FreezeOutLR', warmup=1, t0=.5, schedule='linear', convert_to_iter_based=True))
    axes = draw(simulate(cfg, 5), 'global').axes[0]
    dashed = [line.get_label() for line in axes.lines if line.get_linestyle() == '--']
    assert dashed == ['depth 0, global rate']


def test_a_config_without_a_run_is_an_error():
    with pytest.raises(ValueError, match='max_epochs'):
        run_length(Config(dict(model=dict())), 50)


def test_lines_are_the_rates_over_time_the_shallow_ones_first():
    rates = {'depth 10': [1.0, 1.0, 0.5], 'depth 2': [1.0, 0.5, 0.0], 'depth 9': [1.0, 0.9, 0.8]}
    axes = draw(SimulatedRun(RunLength(12, 4), [0, 1, 2], rates, {2: 1.5}), 'by hand').axes[0]
    lines = [(line.get_label(), line.get_xydata().tolist()) for line in axes.lines if line.get_marker() != 'o']
    assert lines == [('depth 2, frozen at 1.5', [[0, 1], [1, 0.5], [2, 0]]),
                     ('depth 9', [[0, 1], [1, 0.9], [2, 0.8]]), ('depth 10', [[0, 1], [1, 1], [2, 0.5]])]
    dot, = (line for line in axes.lines if line.get_marker() == 'o')
    assert dot.get_xydata().tolist() == [[1.5, 0]]
    assert (axes.get_xlim(), axes.get_ylim()[0], axes.get_ylabel()) == ((0, 3), 0, 'learning rate')


def test_of_a_long_run_about_so_many_points_are_read_and_the_last_one(monkeypatch):
    monkeypatch.setattr(schedule_plot, 'POINTS', 4)
    run = simulate(STAGES, iters_per_epoch=2)
    assert run.times == [0, 2.5, 5, 7.5, 9.5]
    monkeypatch.undo()
    whole = simulate(STAGES, iters_per_epoch=2)
    assert run.rates['stage 4'] == [whole.rates['stage 4'][int(2 * time)] for time in run.times]
