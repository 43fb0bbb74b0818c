import pytest
import torch

from mm_graft.checkpoints.forms import (
    check_stem,
    flatten_tokens,
    fold_class_position,
    fuse_pool,
    fuse_qkv,
    fused_name,
    name_gated,
    name_values,
    shape_tokens,
    split_pool,
    split_qkv,
    unfold_class_position,
    unname_values,
)

LAYER = 'backbone.layers.3.'


def rows(*values, width=2):
    return torch.tensor([[float(value)] * width for value in values])


def same(model, expected):
    assert model.keys() == expected.keys()
    assert all(torch.equal(model[name], expected[name]) for name in expected)


def test_q_k_and_v_become_rows_of_one_matrix_in_this_order():
    apart = {f'{LAYER}attn.{letter}.weight': rows(value, value) for letter, value in (('v', 3), ('q', 1), ('k', 2))}
    apart |= {f'{LAYER}attn.{letter}.bias': torch.tensor([value])
              for letter, value in (('v', 6.), ('q', 4.), ('k', 5.))}
    model = dict(apart)
    fuse_qkv(model)
    same(model, {f'{LAYER}attn.qkv.weight': rows(1, 1, 2, 2, 3, 3),
                 f'{LAYER}attn.qkv.bias': torch.tensor([4., 5., 6.])})
    split_qkv(model)
    same(model, apart)
    assert fused_name(f'{LAYER}attn.k.bias') == f'{LAYER}attn.qkv.bias'
    assert fused_name(f'{LAYER}attn.proj.bias') == f'{LAYER}attn.proj.bias'


def test_keys_without_a_bias_leave_those_of_q_and_v_apart():
    apart = {f'{LAYER}attn.q.bias': torch.ones(2), f'{LAYER}attn.v.bias': torch.zeros(2)}
    model = dict(apart)
    fuse_qkv(model)
    same(model, {f'{LAYER}attn.q_bias': torch.ones(2), f'{LAYER}attn.v_bias': torch.zeros(2)})
    split_qkv(model)
    same(model, apart)
    with pytest.raises(ValueError, match='has 1 of its three parts'):
        fuse_qkv({f'{LAYER}attn.q.bias': torch.ones(2)})


def test_tokens_get_an_axis_for_the_batch_and_lose_it_again():
    flat = {'backbone.cls_token': torch.arange(2.), 'backbone.pos_embed': rows(1, 2, 3)}
    model = dict(flat)
    shape_tokens(model)
    assert {name: tuple(tensor.shape) for name, tensor in model.items()} == {
        'backbone.cls_token': (1, 1, 2), 'backbone.pos_embed': (1, 3, 2)}
    flatten_tokens(model)
    same(model, flat)


def test_beside_registers_the_class_token_carries_its_position():
    model = {'backbone.cls_token': rows(10)[None], 'backbone.pos_embed': rows(1, 2, 3)[None]}
    unchanged = dict(model)
    fold_class_position(unchanged)
    unfold_class_position(unchanged)
    same(unchanged, model)
    model['backbone.reg_token'] = rows(7)[None]
    fold_class_position(model)
    same(model, {'backbone.cls_token': rows(11)[None], 'backbone.pos_embed': rows(2, 3)[None],
                 'backbone.reg_token': rows(7)[None]})
    unfold_class_position(model)
    assert torch.equal(model['backbone.pos_embed'], rows(0, 2, 3)[None])


def test_a_first_matrix_of_twice_the_width_is_gate_and_value():
    plain = {f'{LAYER}ffn.layers.0.0.weight': rows(*range(4)), f'{LAYER}ffn.layers.1.weight': rows(1, 2, width=4)}
    model = dict(plain)
    name_gated(model)
    same(model, plain)
    model[f'{LAYER}ffn.layers.1.weight'] = rows(1, 2, width=2)
    model[f'{LAYER}ffn.layers.1.bias'] = torch.ones(2)
    name_gated(model)
    assert set(model) == {f'{LAYER}ffn.w12.weight', f'{LAYER}ffn.w3.weight', f'{LAYER}ffn.w3.bias'}


def test_values_are_called_so_only_beside_a_gate():
    up = f'{LAYER}ffn.layers.0.0.weight'
    model = {up: rows(1)}
    name_values(model)
    same(model, {up: rows(1)})
    model[f'{LAYER}ffn.fc1_g.weight'] = rows(2)
    name_values(model)
    same(model, {f'{LAYER}ffn.fc1_x.weight': rows(1), f'{LAYER}ffn.fc1_g.weight': rows(2)})
    unname_values(model)
    same(model, {up: rows(1), f'{LAYER}ffn.fc1_g.weight': rows(2)})


def test_the_query_of_the_pool_is_the_first_third():
    pool = 'backbone.attn_pool.'
    whole = {f'{pool}qkv_weight': rows(1, 2, 3), f'{pool}qkv_bias': torch.tensor([1., 2., 3.])}
    model = dict(whole)
    split_pool(model)
    same(model, {f'{pool}q.weight': rows(1), f'{pool}kv.weight': rows(2, 3), f'{pool}q.bias': torch.tensor([1.]),
                 f'{pool}kv.bias': torch.tensor([2., 3.])})
    fuse_pool(model)
    same(model, whole)


def test_patches_are_embedded_by_a_convolution():
    check_stem({'backbone.patch_embed.projection.weight': torch.ones(2, 3, 4, 4)})
    with pytest.raises(ValueError, match='NaFlex'):
        check_stem({'backbone.patch_embed.projection.weight': torch.ones(2, 48)})
