"""The measured step is the real one."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from benchmarks.clock import PhaseClock
from benchmarks.step import PHASES, TrainingStep, resize, without_files
from tests.tiny import classifier, grafted_mocov3, mae

VIEWS = [dict(type='MultiView', num_views=2, transforms=[[]])]


def config(model, pipeline=(), wrapper=None):
    return Config(dict(
        default_scope='mmpretrain', model=model, custom_hooks=[],
        train_dataloader=dict(batch_size=4, dataset=dict(type='ImageNet', pipeline=list(pipeline))),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)) | (wrapper or {})))


def test_a_step_moves_the_weights_as_the_models_own_train_step():
    steps = []
    for _ in range(2):
        torch.manual_seed(0)
        steps.append(TrainingStep(config(mae())))
    ours, host = steps
    host.batch = ours.batch
    for run in (lambda: ours.step(PhaseClock()), lambda: host.model.train_step(host.batch, host.optim_wrapper)):
        torch.manual_seed(1)
        run()
    for actual, expected in zip(ours.model.parameters(), host.model.parameters()):
        assert torch.equal(actual, expected)


def test_every_phase_is_measured_and_an_average_only_where_there_is_one():
    step, clock = TrainingStep(config(grafted_mocov3(), VIEWS)), PhaseClock()
    step.step(clock)
    step.step(clock)
    assert [set(phases) for phases in clock.steps()] == [{*PHASES, 'other'}] * 2
    assert step.model.momentum_encoder.steps == 2
    assert not step.optim_wrapper.optimizer._optimizer_step_post_hooks
    alone = TrainingStep(config(mae()))
    alone.step(without := PhaseClock())
    assert 'ema' not in without.steps()[0]


def test_accumulated_gradients_take_one_optimizer_step():
    step, clock = TrainingStep(config(mae(), wrapper=dict(accumulative_counts=2))), PhaseClock()
    step.step(clock)
    step.step(clock)
    assert ['optimizer' in phases for phases in clock.steps()] == [False, True]


def test_batch_and_size_are_the_configs_unless_given():
    step = TrainingStep(config(mae()))
    assert (step.batch_size, step.size) == (4, (32, 32))
    step = TrainingStep(config(mae()), batch_size=2, img_size=64)
    assert step.batch['inputs'].shape == (2, 3, 64, 64)
    assert torch.isfinite(step.loss_of(3))


def test_the_type_of_the_products_is_that_of_autocast():
    assert TrainingStep(config(classifier())).compute_dtype == torch.float32
    wrapper = dict(type='mm_graft.AutocastOptimWrapper')
    assert TrainingStep(config(classifier(), wrapper=wrapper)).compute_dtype == torch.bfloat16


def test_no_checkpoint_is_read():
    init_default_scope('mmpretrain')
    model = grafted_mocov3(init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth'))
    TrainingStep(config(model, VIEWS))
    model = {'init_cfg': {'type': 'Pretrained', 'checkpoint': 'x'}, 'a': [1, {'checkpoint': 'y', 'b': 2}]}
    assert without_files(model) == {'init_cfg': None, 'a': [1, {'checkpoint': None, 'b': 2}]}


def test_what_counts_patches_follows_the_size():
    vit = dict(type='V', img_size=32, patch_size=8)
    model = resize(dict(backbone=vit, neck=dict(num_patches=16, grid=4, grids=4)), 64)
    assert (model['backbone']['img_size'], model['neck']) == (64, {'num_patches': 64, 'grid': 8, 'grids': 8})
    with pytest.raises(ValueError, match='do not divide images of 60'):
        resize(model, 60)
    with pytest.raises(ValueError, match='takes no image size'):
        resize(dict(backbone=dict(type='ResNet', depth=50)), 64)
