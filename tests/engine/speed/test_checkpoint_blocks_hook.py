"""Recomputing changes memory, nothing else."""

import pytest
import torch
from mmengine.registry import HOOKS, MODELS

from benchmarks.costs import saved_bytes
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook
from mm_graft.engine.speed.compile_blocks_hook import compile_blocks
from tests.engine.freezing.freezeout_runs import classifier, conmim, localmim, mae, make_runner, moco


def step(settings, recomputed, frozen=0):
    torch.manual_seed(0)
    model = MODELS.build(settings).train()
    if hasattr(model, 'momentum_encoder'):
        model.momentum_encoder.max_iters = 10
    if frozen:
        freeze_blocks(model, torch.optim.SGD(model.parameters(), 1), frozen)
    if recomputed:
        assert CheckpointBlocksHook().apply(model) == 4
    images = [torch.rand(4, 3, 32, 32) for _ in range(2)]

    def loss():
        torch.manual_seed(1)
        inputs = images if hasattr(model, 'momentum_encoder') else images[0]
        return model.parse_losses(model.loss(inputs, None))[0]

    memory = saved_bytes(model, loss)
    loss().backward()
    return memory, {name: param.grad for name, param in model.named_parameters() if param.grad is not None}


def graft():
    return moco('mm_graft.GraftedMoCoV3', 'mm_graft.GraftViT')


@pytest.mark.parametrize('frozen', [0, 2])
@pytest.mark.parametrize('settings', [mae, localmim, conmim, graft])
def test_gradients_are_equal_and_less_is_kept(settings, frozen):
    (memory, plain), (less, recomputed) = (step(settings(), again, frozen) for again in (False, True))
    assert less < 0.95 * memory
    assert set(plain) == set(recomputed)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient)


def test_drop_path_is_drawn_once():
    model = MODELS.build(classifier()).train()
    CheckpointBlocksHook().apply(model)
    model.backbone(torch.rand(4, 3, 32, 32))[-1].square().sum().backward()
    assert all(param.grad.isfinite().all() for param in model.backbone.layers.parameters())


def test_without_gradients_nothing_is_recomputed():
    model = MODELS.build(classifier()).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        plain = model.backbone(images)[-1]
        CheckpointBlocksHook().apply(model)
        assert torch.equal(model.backbone(images)[-1], plain)


def test_names_of_parameters_stay():
    model = MODELS.build(mae())
    names = list(model.state_dict())
    CheckpointBlocksHook().apply(model)
    assert list(model.state_dict()) == names


def test_compiled_blocks_can_be_recomputed():
    gradients = []
    for change in (False, True):
        torch.manual_seed(0)
        model, images = MODELS.build(mae()).backbone, torch.rand(2, 3, 32, 32)
        if change:
            CheckpointBlocksHook().apply(model)
            compile_blocks(model, backend='aot_eager')
        model(images, None)[-1].square().sum().backward()
        gradients.append([param.grad for param in model.layers.parameters()])
    torch.testing.assert_close(*gradients)


def test_freezing_during_a_run_goes_together_with_it():
    weights = []
    for extra in ([], [dict(type='mm_graft.CheckpointBlocksHook')]):
        runner = make_runner(mae(), hooks=[HOOKS.build(hook) for hook in extra])
        runner.train()
        weights.append(torch.cat([param.detach().flatten() for param in runner.model.parameters()]))
    torch.testing.assert_close(*weights)
