"""What belongs to a prefix, and what it costs once it is frozen."""

import pytest
import torch
from mmpretrain.registry import MODELS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mm_graft.depth import depth_map
from mm_graft.engine.freezing.freezeout_savings import encoder_step_cost
from mm_graft.engine.freezing.frozen_prefix import (
    GradientWatch,
    freeze_parameters,
    prefix_modules,
    prefix_parameters,
)
from mm_graft.engine.freezing.saved_bytes import SavedBytes
from mm_graft.engine.schedulers.freezeout import CONVENTIONS, freeze_ratios, freeze_step


def small_vit():
    """ViT-S/16 as an encoder, without memory behind it."""
    with torch.device('meta'):
        return MODELS.build(dict(type='VisionTransformer', arch='deit-s', img_size=224, patch_size=16, out_type='raw'))


def freeze(model, depth):
    freeze_parameters(prefix_parameters(model, depth_map(model), depth), torch.optim.SGD(model.parameters(), lr=.1))


def step_cost(model):
    """FLOPs and saved-activation bytes of one step of an encoder; no timers."""
    counter, saved = FlopCounterMode(display=False), SavedBytes(model)
    with sdpa_kernel(SDPBackend.MATH), counter:
        with saved():
            tokens = model(torch.empty(2, 3, 224, 224, device='meta'))[0]
        if tokens.requires_grad:
            tokens.sum().backward()
    model.zero_grad()
    return counter.get_total_flops(), saved.total


@pytest.fixture(scope='module')
def costs():
    """Frozen depth → (FLOPs, bytes) of a ViT-S encoder step."""
    model, costs = small_vit(), {-1: step_cost(small_vit())}
    for depth in range(13):
        freeze(model, depth)
        costs[depth] = step_cost(model)
    return costs


@pytest.mark.parametrize('blocks', range(1, 13))
def test_frozen_blocks_save_95_percent_of_the_ideal(costs, blocks):
    flops, saved = costs[blocks]
    ideal = 1 - encoder_step_cost(blocks, 12)
    assert 1 - flops / costs[-1][0] >= .95 * ideal
    assert 1 - saved / costs[-1][1] >= .95 * blocks / 12


def test_a_live_class_token_would_halve_the_saving(costs):
    model = small_vit()
    freeze(model, 6)
    model.cls_token.requires_grad_(True)
    flops, saved = step_cost(model)
    whole, part = costs[-1][0] - costs[6][0], costs[-1][0] - flops
    assert part < .6 * whole
    assert costs[-1][1] - saved < .6 * (costs[-1][1] - costs[6][1])


def test_the_default_schedule_costs_at_most_3_percent_more_than_the_ideal(costs):
    total, warmup = 1000, 100
    steps = [freeze_step(CONVENTIONS['vitfreeze_paper'], ratio, total, warmup)
             for ratio in freeze_ratios(.8, 'cubic', 12)]
    spent = ideal = 0.
    for step in range(total):
        depth = sum(first is not None and first <= step for first in steps) - 1
        spent += costs[depth][0] / costs[-1][0]
        ideal += encoder_step_cost(max(depth, 0), 12)
    assert spent <= 1.03 * ideal
    assert ideal / total == pytest.approx(1 - .161, abs=2e-3)  # no warm-up in t_i: the table's 16.10 %


def tiny_vit(tiny_arch, type_='VisionTransformer', **kwargs):
    return MODELS.build(dict(type=type_, arch=tiny_arch, img_size=32, patch_size=8, **kwargs))


def test_the_stem_holds_tokens_position_and_its_dropout(tiny_arch):
    model = tiny_vit(tiny_arch, drop_rate=.1)
    depths = depth_map(model)
    stem = {id(param) for param in prefix_parameters(model, depths, 0)}
    assert {id(model.cls_token), id(model.pos_embed), id(model.patch_embed.projection.weight)} <= stem
    assert len(stem) == 4
    assert prefix_modules(model, depths, 0) == [model.patch_embed, model.drop_after_pos]


def test_the_prefix_is_given_by_its_largest_modules(tiny_arch):
    model = tiny_vit(tiny_arch)
    modules = prefix_modules(model, depth_map(model), 2)
    assert modules == [model.patch_embed, model.drop_after_pos, model.layers[0], model.layers[1]]


def test_neither_decay_nor_momentum_moves_a_frozen_parameter():
    param, other = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([param, other], lr=.1, weight_decay=.5)
    (param.sum() + other.sum()).backward()
    optimizer.step()
    before = param.detach().clone()
    freeze_parameters([param], optimizer)
    optimizer.step()
    assert torch.equal(param, before)
    assert not torch.equal(other, before)
    assert param not in optimizer.state


def test_a_watch_names_what_a_backward_pass_reaches():
    model = torch.nn.ModuleDict({'used': torch.nn.Linear(2, 2), 'unused': torch.nn.Linear(2, 2),
                                 'frozen': torch.nn.Linear(2, 2).requires_grad_(False)})
    watch = GradientWatch(model.named_parameters())
    model['used'](torch.ones(1, 2)).sum().backward()
    assert watch.close() == {'used.weight', 'used.bias'}
