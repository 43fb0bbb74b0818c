import pytest
import torch
from mmengine.registry import MODELS
from torch.autograd.graph import saved_tensors_hooks

from mm_graft.models.backbones.graft_vit import GraftViT, is_frozen
from tests.defaults import defaults
from tests.tiny import VIT


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 32)


def build(type_='mm_graft.GraftViT', **kwargs):
    torch.manual_seed(3)
    vit = MODELS.build(dict(type=type_, **VIT) | kwargs)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter.data, std=0.3)
    return vit


def freeze(vit, blocks):
    """Stem and the first blocks out of training."""
    for name, parameter in vit.named_parameters():
        if not name.startswith(('ln1', *(f'layers.{i}.' for i in range(blocks, 4)))):
            parameter.requires_grad_(False)
    return vit


def gradients(vit, images):
    vit.zero_grad()
    vit(images)[-1].square().sum().backward()
    return {name: parameter.grad for name, parameter in vit.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize('settings', [
    {}, {'out_type': 'raw'}, {'out_type': 'featmap'}, {'out_type': 'avg_featmap'}, {'out_indices': [0, 2]},
    {'out_type': 'raw', 'out_indices': [1, 3], 'final_norm': False},
    {'with_cls_token': False, 'out_type': 'avg_featmap'}, {'pre_norm': True, 'patch_cfg': {'bias': True}}], ids=str)
@pytest.mark.parametrize('size', [32, 48])
def test_outputs_are_the_hosts(settings, size):
    images = torch.randn(2, 3, size, size)
    host, ours = build('VisionTransformer', **settings), build(**settings)
    ours.load_state_dict(host.state_dict(), strict=True)
    host.eval()  # returns None
    expected, actual = host(images), ours.eval()(images)
    assert len(actual) == len(expected)
    for left, right in zip(actual, expected):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


def test_adapters_are_for_whole_blocks():
    assert not build(adapters=dict(rank=2)).layers[0].ffn.layers[1].weight.requires_grad
    with pytest.raises(ValueError, match='adapters in them would do nothing'):
        build(adapters=dict(rank=2), class_token_only=True, out_type='cls_token')


def test_without_a_class_token_it_has_to_be_loaded():
    with pytest.raises(ValueError, match=r"with_cls_token=False.*type='Pretrained'"):
        build(with_cls_token=False, out_type='avg_featmap').init_weights()


def test_a_patch_projection_without_a_bias_can_be_kept_and_has_to_be_loaded():
    vit = build(pre_norm=True)
    assert vit.patch_embed.projection.bias is None
    assert not vit.patch_embed.projection.weight.requires_grad
    assert vit.pre_norm.weight.requires_grad
    with pytest.raises(ValueError, match=r"pre_norm=True without patch_cfg=dict\(bias=True\).*type='Pretrained'"):
        vit.init_weights()


def test_the_position_embedding_never_trains_and_the_patch_projection_if_asked(images):
    for stop, expected in ((True, False), (False, True)):
        vit = build(stop_grad_conv1=stop)
        assert not vit.pos_embed.requires_grad
        assert [parameter.requires_grad for parameter in vit.patch_embed.parameters()] == [expected] * 2
        assert ('patch_embed.projection.weight' in gradients(vit, images)) == expected


def test_the_position_embedding_stays_frozen_when_weights_are_initialized_or_loaded(tmp_path):
    vit = build()
    vit.init_weights()
    assert not vit.pos_embed.requires_grad
    vit.pos_embed.data.add_(1)  # others than those of the initialization
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    loaded = MODELS.build(dict(type='mm_graft.GraftViT', **VIT,
                               init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))))
    loaded.init_weights()
    assert not loaded.pos_embed.requires_grad
    assert torch.equal(loaded.pos_embed, vit.pos_embed)
    loaded.train()
    assert not loaded.pos_embed.requires_grad


def test_every_trained_parameter_gets_a_gradient_and_no_other(images):
    vit = build()
    found = gradients(vit, images)
    assert set(found) == {name for name, _ in vit.named_parameters()} - {
        'pos_embed', 'patch_embed.projection.weight', 'patch_embed.projection.bias'}
    assert all(gradient.any() for gradient in found.values())


def test_frozen_blocks_stay_in_eval_mode_and_trained_ones_follow():
    vit = freeze(build(drop_path_rate=0.5, drop_rate=0.5), 2)
    assert vit.train() is vit
    assert [block.training for block in vit.layers] == [False, False, True, True]
    assert not any(module.training for module in vit.layers[1].modules())
    assert vit.training
    vit.eval()
    assert not any(module.training for module in vit.modules())
    vit.train(True)
    assert [is_frozen(block) for block in vit.layers] == [True, True, False, False]


def test_frozen_blocks_are_deterministic_in_training(images):
    vit = freeze(build(drop_path_rate=0.9), 4).train()
    assert torch.equal(vit(images)[-1], vit(images)[-1])


def test_a_partly_trained_block_is_not_frozen():
    vit = build()
    vit.layers[0].requires_grad_(False)
    vit.layers[0].ln1.weight.requires_grad_(True)
    assert not is_frozen(vit.layers[0])
    assert vit.train().layers[0].training


@pytest.mark.parametrize('frozen', [0, 1, 3])
def test_recomputing_activations_changes_no_gradient_above_any_frozen_prefix(images, frozen):
    plain, saving = (freeze(build(with_cp=with_cp), frozen).train() for with_cp in (False, True))
    expected, actual = gradients(plain, images), gradients(saving, images)
    assert set(actual) == set(expected)
    for name, gradient in expected.items():
        assert gradient is not None, name
        torch.testing.assert_close(actual[name], gradient, rtol=0, atol=0)


def test_recomputing_draws_the_same_drop_path(images):
    plain, saving = (build(with_cp=with_cp, drop_path_rate=0.5).train() for with_cp in (False, True))
    results = []
    for vit in (plain, saving):
        torch.manual_seed(7)
        results.append(gradients(vit, images))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, rtol=0, atol=0)


def saved_bytes(vit, images):
    """Bytes that autograd keeps for the backward pass, and whether the output is part of a graph."""
    saved = []

    def pack(tensor):
        saved.append(tensor.nbytes)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        output = vit(images)[-1]
    return sum(saved), output.requires_grad


def test_a_frozen_prefix_stores_no_activations(images):
    whole, _ = saved_bytes(freeze(build(), 0), images)
    sizes = [saved_bytes(freeze(build(), blocks), images)[0] for blocks in range(5)]
    assert sizes == sorted(sizes, reverse=True)
    per_block = sizes[1] - sizes[2]
    assert sizes[2] - sizes[3] == sizes[3] - sizes[4] == per_block  # nothing is left of a frozen block
    assert sizes[4] < per_block < whole / 3


def test_an_entirely_frozen_encoder_is_out_of_autograd(images):
    vit = build()
    vit.requires_grad_(False)
    assert saved_bytes(vit, images) == (0, False)


@pytest.mark.parametrize('frozen', [0, 3])  # with 3, what the first trained block reads has no gradient
def test_recomputing_stores_less(images, frozen):
    plain, saving = (saved_bytes(freeze(build(with_cp=saves), frozen).train(), images)[0] for saves in (False, True))
    assert saving < plain / 2


def test_gradients_flow_to_the_images_through_frozen_blocks(images):
    vit = build(with_cp=True).train().requires_grad_(False)
    images.requires_grad_(True)
    vit(images)[-1].sum().backward()
    assert images.grad.any()


def test_embedding_gives_class_token_and_patches_with_positions(images):
    vit = build().eval()
    tokens, grid = vit.embed(images)
    assert tokens.shape == (3, 17, 16)
    assert tuple(grid) == (4, 4)
    torch.testing.assert_close(tokens[:, 0], (vit.cls_token + vit.pos_embed[:, :1])[:, 0].expand(3, -1))


@pytest.mark.parametrize('count', [0, 1, 3])
def test_lower_and_upper_part_make_the_whole(images, count):
    vit = build().eval()
    torch.testing.assert_close(vit.run_upper(*vit.run_lower(images, count), first=count), vit(images), rtol=0, atol=0)


def test_the_frozen_depth_is_what_neither_trains_nor_varies():
    assert build().train().frozen_depth == -1  # the class token trains
    assert [freeze(build(drop_path_rate=0.5), blocks).train().frozen_depth for blocks in range(5)] == [0, 1, 2, 3, 4]
    vit = freeze(build(drop_rate=0.5), 2)
    assert vit.train().frozen_depth == -1  # dropout in the stem
    assert vit.eval().frozen_depth == 2


@pytest.mark.parametrize('with_cp', [False, True])
def test_the_class_token_alone_gives_the_same_outputs_and_gradients(tiny_arch, with_cp):
    found = []
    for lean in (False, True):
        torch.manual_seed(0)
        model = MODELS.build(dict(type='mm_graft.GraftViT', arch=tiny_arch, img_size=32, patch_size=8,
                                  with_cp=with_cp, class_token_only=lean)).double().train()
        tokens = model(torch.rand(3, 3, 32, 32, dtype=torch.double))[-1]
        tokens.square().sum().backward()
        found.append((tokens, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[0], found[1])


def test_in_evaluation_the_last_block_is_whole(tiny_arch):
    model = MODELS.build(dict(type='mm_graft.GraftViT', arch=tiny_arch, img_size=32, patch_size=8,
                              class_token_only=True)).eval()
    seen = []
    model.layers[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    model(torch.rand(1, 3, 32, 32))
    assert seen == [(1, 17, 16)]


@pytest.mark.parametrize('output', [dict(out_type='raw'), dict(out_indices=[1, 3])])
def test_whoever_reads_more_than_the_class_token_needs_the_whole_block(tiny_arch, output):
    with pytest.raises(ValueError, match='leave it out'):
        MODELS.build(dict(type='mm_graft.GraftViT', arch=tiny_arch, img_size=32, patch_size=8, class_token_only=True,
                          **output))


@pytest.mark.parametrize('size', [(288, 512), (512, 288), (64, 256)])
def test_patches_that_touch_are_alike_in_the_table_of_images_that_are_not_square(size):
    vit = MODELS.build(dict(type='mm_graft.GraftViT', arch=VIT['arch'] | dict(embed_dims=48), img_size=size,
                            patch_size=16))
    vit.init_weights()
    table = vit.pos_embed[0, 1:].reshape(size[0] // 16, size[1] // 16, -1)
    for axis in (0, 1):
        count = table.shape[axis]
        touching = torch.cosine_similarity(table.narrow(axis, 0, count - 1), table.narrow(axis, 1, count - 1), dim=-1)
        assert touching.mean() > 0.96


def test_on_square_images_the_table_is_the_hosts_to_the_bit():
    tables = []
    for kind in ('MoCoV3ViT', 'mm_graft.GraftViT'):
        vit = MODELS.build(dict(type=kind, **VIT))
        vit.init_weights()
        tables.append(vit.pos_embed)
    assert torch.equal(*tables)


def test_patches_that_do_not_divide_the_image_are_refused_and_padded_in_evaluation_alone():
    with pytest.raises(ValueError, match='patches of 8×8 pixels do not divide an image of 36×32'):
        build(img_size=(36, 32))
    vit, images = build(), torch.randn(1, 3, 36, 32)
    with pytest.raises(ValueError, match='do not divide an image of 36×32'):
        vit.train()(images)
    assert vit.eval()(images)[-1].shape == (1, 16)


def test_a_norm_before_the_blocks_is_frozen_with_the_stem():
    assert build(pre_norm=True, patch_cfg=dict(bias=True), frozen_stages=1).train().frozen_depth == 1
    assert build(pre_norm=True, patch_cfg=dict(bias=True)).train().frozen_depth == -1


def test_the_patch_projection_keeps_its_values_unless_told_otherwise():
    usual = defaults(GraftViT)
    assert (usual['patch_size'], usual['stop_grad_conv1'], usual['with_cp'], usual['class_token_only']) == (
        16, True, False, False)
