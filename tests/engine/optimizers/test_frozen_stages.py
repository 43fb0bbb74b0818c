"""Stages with a multiplier of 0, and stages that something else froze."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import distributed, nn

from tests.engine.optimizers.test_graft_constructor import HALVES, build
from tests.tiny import grafted_mocov3


def test_zero_freezes_a_stage_whole():
    model, optimizer = build(dict(stage_lr_mult=[0.0, 1.0]))
    assert all(group['stage'] == 2 for group in optimizer.param_groups)
    for name, parameter in model.named_parameters():
        if name.startswith(('backbone.layers.0.', 'backbone.layers.1.', 'backbone.cls_token', 'backbone.patch_embed')):
            assert not parameter.requires_grad, name
        elif not name.startswith(('momentum_encoder.', 'backbone.pos_embed')):
            assert parameter.requires_grad, name


def test_frozen_stages_are_out_of_autograd_and_keep_their_weights():
    model, optimizer = build(dict(stage_lr_mult=[0.0, 1.0]))
    model.train()
    model.momentum_encoder.max_iters = 4
    before = {name: parameter.clone() for name, parameter in model.backbone.named_parameters()}
    seen = []
    model.backbone.layers[1].register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    model.loss([torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32)])['loss'].backward()
    optimizer.step()
    assert seen == [False]
    for name, parameter in model.backbone.named_parameters():
        if name.startswith(('layers.2', 'layers.3', 'ln1.weight')):
            assert not torch.equal(parameter, before[name]), name
        elif not name.startswith('ln1'):
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name


def test_a_multiplier_of_a_stage_that_something_else_froze_is_refused():
    model = MODELS.build(grafted_mocov3(frozen_stages=2))
    for name, parameter in model.named_parameters():
        if name.startswith(('backbone.layers.0.', 'backbone.layers.1.', 'backbone.cls', 'backbone.patch')):
            parameter.requires_grad_(False)
    with pytest.raises(ValueError, match=r'nothing in stages \[1\] trains.*write 0'):
        build(HALVES, model=model)
    build(dict(stage_lr_mult=[0, 0.5]), model=model)
    model.backbone.layers[1].ln1.weight.requires_grad_(True)
    build(HALVES, model=model)


@pytest.fixture
def process_group(tmp_path):
    """A group of one process."""
    distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_distributed_wrapper_must_expect_frozen_stages(process_group):
    model = MODELS.build(grafted_mocov3())
    wrapped = nn.parallel.DistributedDataParallel(model)
    build(dict(stage_lr_mult=[0.1, 1.0]), model=wrapped)
    with pytest.raises(ValueError, match=r'multiplier of 0.*find_unused_parameters=True'):
        build(dict(stage_lr_mult=[0.0, 0.5]), model=wrapped)
    expecting = nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    build(dict(stage_lr_mult=[0.0, 1.0]), model=expecting)
    assert not model.backbone.cls_token.requires_grad
