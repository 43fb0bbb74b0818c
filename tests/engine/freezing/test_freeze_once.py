"""Freezing by hand is what the hook does."""

import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.depth import depth_map
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from tests.engine.freezing.freezeout_runs import conmim, localmim


@pytest.mark.parametrize('blocks', [1, 2])
def test_stem_and_blocks_no_longer_train_and_the_rest_does(blocks):
    model = MODELS.build(localmim()).train()
    optimizer = torch.optim.SGD(model.parameters(), 1)
    freeze_blocks(model, optimizer, blocks)
    depths = depth_map(model).depths
    trained = {name for name, param in model.named_parameters() if param.requires_grad}
    assert trained == {name for name, depth in depths.items() if depth > blocks} - {'backbone.pos_embed'}
    assert [block.training for block in model.backbone.layers] == [index >= blocks for index in range(4)]
    assert model.live_scales == set(range(blocks, 4))


def test_all_blocks_may_be_frozen():
    model = MODELS.build(conmim())
    freeze_blocks(model, torch.optim.SGD(model.parameters(), 1), 4)
    assert not any(parameter.requires_grad for parameter in model.backbone.layers.parameters())
    assert model.neck.fc0.weight.requires_grad


def test_a_shared_bias_does_not_keep_frozen_blocks_in_the_backward_pass():
    model = MODELS.build(conmim()).train()
    freeze_blocks(model, torch.optim.SGD(model.parameters(), 1), 2)
    reached = []
    model.backbone.layers[1].register_forward_hook(lambda module, args, output: reached.append(output.requires_grad))
    model.backbone.encode_masked(torch.randn(2, 3, 32, 32), torch.ones(2, 16, dtype=torch.bool))
    assert reached == [False]


@pytest.mark.parametrize('blocks', [0, 5])
def test_more_blocks_than_there_are_is_an_error(blocks):
    model = MODELS.build(localmim())
    with pytest.raises(ValueError, match='choose 1…4'):
        freeze_blocks(model, torch.optim.SGD(model.parameters(), 1), blocks)
