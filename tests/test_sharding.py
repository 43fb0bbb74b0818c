from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODEL_WRAPPERS
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mm_graft.engine.freezing.freezeout_hook import check_supported
from mm_graft.engine.hooks.gradient_conflict_hook import GradientConflictHook
from mm_graft.engine.hooks.online_knn_hook import OnlineKNNHook
from mm_graft.engine.hooks.weight_anchor import WeightAnchor
from mm_graft.engine.optimizers.graft_constructor import GraftOptimWrapperConstructor
from mm_graft.engine.speed.channels_last_hook import ChannelsLastHook
from mm_graft.sharding import (
    FULLY_SHARD,
    full_state_dict,
    local_shard,
    refuse_sharding,
    shard_like,
    shard_loaded_moments,
    shard_loaded_weights,
    sharding_of,
    sharding_wrapper,
    sum_over_shards,
)
from tests.own_process import one_of_one


def shard(tensor, dim=0):
    return distribute_tensor(tensor, init_device_mesh('cpu', (1, )), [Shard(dim)])


@one_of_one
def test_a_piece_is_in_the_memory_of_the_shard():
    whole, cut = torch.ones(4), shard(torch.ones(4))
    assert local_shard(whole) is whole
    local_shard(cut).zero_()
    assert cut.full_tensor().tolist() == [0, 0, 0, 0]


@one_of_one
def test_a_gathered_state_is_plain_and_keeps_order_and_metadata():
    module = nn.Linear(2, 2)
    plain = module.state_dict()
    module.weight = nn.Parameter(shard(module.weight.data))
    state = full_state_dict(module.state_dict())
    assert list(state) == list(plain)
    assert state._metadata == plain._metadata
    assert not isinstance(state['weight'], DTensor)
    assert torch.equal(state['weight'], plain['weight'])
    assert full_state_dict({'state': {0: {'step': 3, 'm': shard(torch.ones(2))}}})['state'][0]['m'].tolist() == [1, 1]


@one_of_one
def test_elsewhere_than_in_the_main_process_nothing_is_kept(monkeypatch):
    monkeypatch.setattr('mm_graft.sharding.is_main_process', lambda: False)
    assert full_state_dict({'m': shard(torch.ones(2))})['m'].numel() == 0


@one_of_one
def test_a_value_is_cut_as_its_parameter_and_only_if_it_has_its_shape():
    value, parameter = torch.arange(6.).reshape(2, 3), shard(torch.zeros(2, 3), 1)
    assert shard_like(value, parameter).placements == (Shard(1), )
    assert shard_like(value, torch.zeros(2, 3)) is value
    assert shard_like(torch.tensor(3.), parameter).ndim == 0
    already = shard(value)
    assert shard_like(already, parameter) is already


@one_of_one
def test_whole_weights_load_into_shards():
    module, values = nn.Linear(2, 3), {'weight': torch.randn(3, 2), 'bias': torch.randn(3)}
    module.weight = nn.Parameter(shard(module.weight.data))
    module.register_load_state_dict_pre_hook(shard_loaded_weights)
    module.load_state_dict(values)
    assert torch.equal(module.weight.full_tensor(), values['weight'])
    assert torch.equal(module.bias, values['bias'])


@one_of_one
def test_whole_moments_load_into_shards():
    parameters = [nn.Parameter(shard(torch.ones(4))), nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.AdamW([{'params': parameters[:1]}, {'params': parameters[1:]}])
    optimizer.register_load_state_dict_pre_hook(shard_loaded_moments)
    plain = torch.optim.AdamW([{'params': [torch.ones(4, requires_grad=True)]},
                               {'params': [torch.ones(2, requires_grad=True)]}])
    for group in plain.param_groups:
        group['params'][0].grad = torch.randn_like(group['params'][0])
    plain.step()
    saved = plain.state_dict()
    optimizer.load_state_dict(saved)
    kept = optimizer.state[parameters[0]]
    assert isinstance(kept['exp_avg'], DTensor)
    assert torch.equal(kept['exp_avg'].full_tensor(), saved['state'][0]['exp_avg'])
    assert not isinstance(kept['step'], DTensor)
    assert not isinstance(saved['state'][0]['exp_avg'], DTensor)  # what was read is left as it was
    assert torch.equal(optimizer.state[parameters[1]]['exp_avg'], saved['state'][1]['exp_avg'])


def test_a_sum_of_pieces_counts_all_and_is_differentiated_by_its_own(monkeypatch):
    monkeypatch.setattr('mm_graft.sharding.all_reduce', lambda value: value.add_(10))
    piece = torch.tensor(3., requires_grad=True)
    total = sum_over_shards(2 * piece)
    total.backward()
    assert total.item() == 16
    assert piece.grad.item() == 2


class Sharded(nn.Module):
    """Stands in for FSDP."""

    def __init__(self, module):
        super().__init__()
        self.module = module


class DDPStrategy:
    """Has the name of the host's."""


class DeepSpeedStrategy:
    """Has the name of the host's."""


@pytest.fixture(autouse=True)
def _registered():
    MODEL_WRAPPERS.register_module(module=Sharded, force=True)
    yield
    MODEL_WRAPPERS._module_dict.pop('Sharded')


@pytest.fixture
def run():
    return SimpleNamespace(model=Sharded(nn.Linear(2, 2)))


def test_wrappers_and_strategies_that_cut_are_told_from_those_that_do_not(run):
    plain = nn.Linear(2, 2)
    assert sharding_wrapper(plain) is None
    assert sharding_wrapper(run.model) == sharding_of(run) == 'Sharded'
    assert sharding_of(SimpleNamespace(model=plain)) is None
    assert sharding_of(SimpleNamespace(model=plain, strategy=DDPStrategy())) is None
    assert sharding_of(SimpleNamespace(model=plain, strategy=DeepSpeedStrategy())) == 'DeepSpeedStrategy'


def test_tensors_of_fsdp2_are_seen(monkeypatch):
    monkeypatch.setattr('mm_graft.sharding.DTensor', nn.Parameter)
    run = SimpleNamespace(model=nn.Linear(2, 2))
    assert sharding_of(run) == FULLY_SHARD
    with pytest.raises(ValueError, match='FreezeOut rebuilds the model wrapper'):
        check_supported(run)


def test_the_message_names_component_strategy_and_remedy():
    refuse_sharding('This', None)
    with pytest.raises(ValueError, match=r'This needs full parameters, but Sharded.*MMDistributedDataParallel'):
        refuse_sharding('This', 'Sharded')


@pytest.mark.parametrize(
    'hook', [WeightAnchor('file.pth'), GradientConflictHook(), OnlineKNNHook(), ChannelsLastHook()])
def test_a_hook_that_needs_plain_parameters_refuses_before_training(run, hook):
    with pytest.raises(ValueError, match=f'{type(hook).__name__}.* needs full parameters, but Sharded'):
        hook.before_train(run)


def test_the_constructor_refuses_flattened_parameters(run):
    constructor = GraftOptimWrapperConstructor(dict(optimizer=dict(type='SGD', lr=0.1)), dict(by_depth=True))
    with pytest.raises(ValueError, match=r'GraftOptimWrapperConstructor.*needs full parameters, but Sharded'):
        constructor(run.model)
