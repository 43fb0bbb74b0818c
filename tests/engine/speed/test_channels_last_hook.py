"""Another order in memory, the same numbers."""

import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mm_graft.engine.speed.channels_last_hook import ChannelsLastHook
from tests.tiny import classifier, grafted_mocov3, settings


def outputs(change):
    torch.manual_seed(0)
    model, images = MODELS.build(classifier()).double(), torch.rand(2, 3, 32, 32, dtype=torch.double)
    if change:
        ChannelsLastHook().apply(model)
    tokens = model.backbone(images)[-1]
    tokens.square().sum().backward()
    return tokens, model.backbone.patch_embed.projection.weight.grad


def test_outputs_and_gradients_are_the_same():
    torch.testing.assert_close(outputs(True), outputs(False))


def test_all_encoders_are_changed_and_only_in_memory():
    model = MODELS.build(grafted_mocov3())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert ChannelsLastHook().apply(model) == 2
    weights = [encoder.patch_embed.projection.weight for encoder in (model.backbone, model.momentum_encoder.module[0])]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_run_with_it_takes_the_same_steps(tmp_path):
    weights = []
    for name, hooks in (('plain', []), ('last', [dict(type='mm_graft.ChannelsLastHook')])):
        runner = Runner(**settings(grafted_mocov3(), tmp_path / name, custom_hooks=hooks))
        runner.train()
        weights.append(torch.cat([param.detach().flatten() for param in runner.model.parameters()]))
    torch.testing.assert_close(*weights)
