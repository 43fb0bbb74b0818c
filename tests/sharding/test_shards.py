import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mm_graft.sharding.shards import cut_like, cut_loaded_moments, cut_loaded_weights, gathered, local, sum_of_pieces
from tests.own_process import one_of_one


def shard(tensor, dim=0):
    return distribute_tensor(tensor, init_device_mesh('cpu', (1, )), [Shard(dim)])


@one_of_one
def test_a_piece_is_in_the_memory_of_the_shard():
    whole, cut = torch.ones(4), shard(torch.ones(4))
    assert local(whole) is whole
    local(cut).zero_()
    assert cut.full_tensor().tolist() == [0, 0, 0, 0]


@one_of_one
def test_a_gathered_state_is_plain_and_keeps_order_and_metadata():
    module = nn.Linear(2, 2)
    plain = module.state_dict()
    module.weight = nn.Parameter(shard(module.weight.data))
    state = gathered(module.state_dict())
    assert list(state) == list(plain)
    assert state._metadata == plain._metadata
    assert not isinstance(state['weight'], DTensor)
    assert torch.equal(state['weight'], plain['weight'])
    assert gathered({'state': {0: {'step': 3, 'm': shard(torch.ones(2))}}})['state'][0]['m'].tolist() == [1, 1]


@one_of_one
def test_elsewhere_than_in_the_main_process_nothing_is_kept(monkeypatch):
    monkeypatch.setattr('mm_graft.sharding.shards.is_main_process', lambda: False)
    assert gathered({'m': shard(torch.ones(2))})['m'].numel() == 0


@one_of_one
def test_a_value_is_cut_as_its_parameter_and_only_if_it_has_its_shape():
    value, parameter = torch.arange(6.).reshape(2, 3), shard(torch.zeros(2, 3), 1)
    assert cut_like(value, parameter).placements == (Shard(1), )
    assert cut_like(value, torch.zeros(2, 3)) is value
    assert cut_like(torch.tensor(3.), parameter).ndim == 0
    already = shard(value)
    assert cut_like(already, parameter) is already


@one_of_one
def test_whole_weights_load_into_shards():
    module, values = nn.Linear(2, 3), {'weight': torch.randn(3, 2), 'bias': torch.randn(3)}
    module.weight = nn.Parameter(shard(module.weight.data))
    module.register_load_state_dict_pre_hook(cut_loaded_weights)
    module.load_state_dict(values)
    assert torch.equal(module.weight.full_tensor(), values['weight'])
    assert torch.equal(module.bias, values['bias'])


@one_of_one
def test_whole_moments_load_into_shards():
    parameters = [nn.Parameter(shard(torch.ones(4))), nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.AdamW([{'params': parameters[:1]}, {'params': parameters[1:]}])
    optimizer.register_load_state_dict_pre_hook(cut_loaded_moments)
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
    monkeypatch.setattr('mm_graft.sharding.shards.all_reduce', lambda value: value.add_(10))
    piece = torch.tensor(3., requires_grad=True)
    total = sum_of_pieces(2 * piece)
    total.backward()
    assert total.item() == 16
    assert piece.grad.item() == 2
