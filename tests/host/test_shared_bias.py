import copy

import torch
from mmpretrain.registry import MODELS

from mm_graft.host.shared_bias import cut_shared_bias

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}


def beit(**kwargs):
    torch.manual_seed(1)
    return MODELS.build(dict(type='BEiTViT', arch=ARCH, img_size=32, patch_size=8, use_abs_pos_emb=False,
                             use_rel_pos_bias=False, use_shared_rel_pos_bias=True, out_type='raw', final_norm=True,
                             **kwargs))


def freeze(model, blocks):
    for part in (model.patch_embed, *model.layers[:blocks]):
        part.requires_grad_(False)
    model.cls_token.requires_grad_(False)
    return model


def blocks_in_autograd(model):
    seen = []
    handles = [layer.register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
               for layer in model.layers]
    model(torch.randn(1, 3, 32, 32))[0].pow(3).sum().backward()
    for handle in handles:
        handle.remove()
    return seen


def test_without_the_cut_the_host_keeps_every_block_in_autograd():
    assert blocks_in_autograd(freeze(beit(), 2)) == [True] * 4  # else this room is not needed any more


def test_frozen_blocks_leave_autograd_and_the_table_learns_from_the_others():
    model = beit()
    cut_shared_bias(model)
    assert blocks_in_autograd(model) == [True] * 4
    assert blocks_in_autograd(freeze(model, 2)) == [False, False, True, True]
    assert all(parameter.grad.any() for parameter in model.rel_pos_bias.parameters())
    assert blocks_in_autograd(copy.deepcopy(model)) == [False, False, True, True]


def test_outputs_and_the_gradient_of_the_trained_part_stay():
    plain, cut = freeze(beit(), 2), freeze(beit(), 2)
    cut_shared_bias(cut)
    cut_shared_bias(cut)
    assert all(len(layer._forward_pre_hooks) == 1 for layer in cut.layers)
    images, outputs = torch.randn(2, 3, 32, 32), []
    for model in (plain, cut):
        outputs.append(model(images)[0])
        outputs[-1].square().sum().backward()
    assert torch.equal(*outputs)
    assert torch.equal(plain.layers[2].attn.qkv.weight.grad, cut.layers[2].attn.qkv.weight.grad)


def test_a_model_without_a_shared_bias_is_left_alone():
    model = MODELS.build(dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8))
    cut_shared_bias(model)
    assert not any(layer._forward_pre_hooks for layer in model.layers)
