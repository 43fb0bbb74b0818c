"""A training step never asks the device for a number: it reads no value, and no shape in it depends on one."""

import pytest
import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.clock import PhaseClock
from benchmarks.step import TrainingStep
from tests.engine.freezing.freezeout_runs import conmim, localmim, mae, moco

aten = torch.ops.aten
WAITING = ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'equal.default', 'is_nonzero')
VIEWS = [dict(type='MultiView', num_views=2, transforms=[[]])]
DEVICE_VIEWS = dict(type='mm_graft.TwoViewPreprocessor', mean=[100.] * 3, std=[50.] * 3, blur_sigma=(0.1, 0.5))


class Watch(TorchDispatchMode):
    """Keeps the operations on whose result the host would have to wait."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found += [str(func) for name in WAITING if name in str(func)]
        indices = args[1] if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default) else ()
        if any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def graft(**kwargs):
    return moco('mm_graft.GraftedMoCoV3', 'mm_graft.GraftViT', **kwargs)


@pytest.mark.parametrize(('model', 'views'), [
    (mae(), []), (localmim(), []), (conmim(), VIEWS), (graft(), VIEWS),
    ({**graft(), 'data_preprocessor': DEVICE_VIEWS}, [])], ids=['mae', 'localmim', 'conmim', 'graft', 'device views'])
def test_a_step_does_not_wait(model, views):
    cfg = Config(dict(
        default_scope='mmpretrain', model=model, custom_hooks=[],
        train_dataloader=dict(batch_size=4, dataset=dict(type='ImageNet', pipeline=views)),
        optim_wrapper=dict(
            type='mm_graft.AutocastOptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor',
            paramwise_cfg=dict(stage_lr_mult=[1.0]), optimizer=dict(type='AdamW', lr=1e-3),
            clip_grad=dict(max_norm=1.))))
    step = TrainingStep(cfg)
    step.optim_wrapper.keep_norm = lambda name, norm: None
    step.step(PhaseClock())  # the first step finds out which averages move
    with Watch() as watch:
        step.step(PhaseClock())
    assert watch.found == []


def test_the_watch_finds_a_wait():
    with Watch() as watch:
        torch.ones(1).item()
        torch.ones(2)[torch.tensor([True, False])]
    assert len(watch.found) == 2
