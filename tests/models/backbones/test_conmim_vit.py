import math

import pytest
import torch
from mmengine.runner import save_checkpoint
from mmpretrain.models.selfsup import BEiTPretrainViT
from mmpretrain.registry import MODELS

from mm_graft.checkpoints import CheckpointError, load_backbone
from mm_graft.depth import depth_map
from mm_graft.models.backbones.conmim_vit import ARCHITECTURES, ConMIMViT, sizes_of
from mm_graft.models.backbones.relative_position import resize_table
from tests.defaults import defaults

TUNED = {'use_rel_pos_bias': True, 'use_shared_rel_pos_bias': False, 'with_mask_token': False, 'final_norm': False,
         'out_type': 'avg_featmap'}


@pytest.fixture
def build(tiny_arch):
    def build_backbone(**kwargs) -> ConMIMViT:
        settings = {'arch': tiny_arch, 'img_size': 32, 'patch_size': 8, **kwargs}
        return MODELS.build({'type': 'mm_graft.ConMIMViT', **settings})
    return build_backbone


def randomize(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def test_encodes_as_the_hosts_beit_with_explicit_softmax(build, tiny_arch):
    ours = randomize(build()).eval()
    host = BEiTPretrainViT(tiny_arch, 32, 8)
    host.eval()  # returns None
    missing, unexpected = host.load_state_dict(ours.state_dict(), strict=False)
    assert missing == ['rel_pos_bias.relative_position_index']
    assert not unexpected
    images, mask = torch.randn(2, 3, 32, 32), torch.rand(2, 16) < 0.5
    torch.testing.assert_close(ours(images)[-1], host(images, None)[-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.encode_masked(images, mask)[-1], host(images, mask)[-1], rtol=1e-4, atol=1e-4)


def test_hidden_pixels_do_not_matter_and_visible_ones_do(build):
    backbone = randomize(build()).eval()
    images, mask = torch.randn(1, 3, 32, 32), torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 0] = True
    changed = images.clone()
    changed[..., :8, :8] += 1
    torch.testing.assert_close(backbone.encode_masked(images, mask)[-1], backbone.encode_masked(changed, mask)[-1])
    assert not torch.allclose(backbone(images)[-1], backbone(changed)[-1])


def test_initialization_is_beits(build):
    backbone = build(layer_scale_init_value=1e-3)
    for module in backbone.modules():
        if isinstance(module, torch.nn.LayerNorm | torch.nn.Linear):
            randomize(module)
    backbone.init_weights()
    for norm in (module for module in backbone.modules() if isinstance(module, torch.nn.LayerNorm)):
        assert (norm.weight == 1).all()
        assert not norm.bias.any()
    assert not backbone.layers[0].ffn.layers[1].bias.any()
    for number, layer in enumerate(backbone.layers, 1):
        for linear, scale in ((layer.attn.qkv, 1), (layer.attn.proj, math.sqrt(2 * number)),
                              (layer.ffn.layers[1], math.sqrt(2 * number)), (layer.ffn.layers[0][0], 1)):
            weight = linear.weight * scale
            assert 0.015 < weight.abs().max() <= 0.0200001
            assert weight.std() < 0.013
        assert (layer.gamma_1 == 1e-3).all()
        assert (layer.attn.q_bias == 0).all()
    assert (backbone.rel_pos_bias.relative_position_bias_table == 0).all()
    assert backbone.cls_token.abs().max() > 0.005
    assert backbone.mask_token.abs().max() > 0.005
    assert backbone.patch_embed.projection.weight.abs().max() <= 0.0200001


def test_outputs_are_a_tuple_and_the_list_of_blocks_is_left_as_it_was_given(build):
    given = [0, -1]
    backbone = build(out_indices=given)
    assert given == [0, -1]
    outputs = backbone(torch.randn(1, 3, 32, 32))
    assert isinstance(outputs, tuple)
    assert len(outputs) == 2


def test_a_large_one_is_beits():
    assert ARCHITECTURES['large'] == {
        'embed_dims': 1024, 'num_layers': 24, 'num_heads': 16, 'feedforward_channels': 4096}


@pytest.mark.parametrize(('arch', 'official'), [
    ('s', 44_168_360 - 3_153_920 - 19_415_040), ('base', 112_953_680 - 6_299_648 - 20_987_904)])
def test_sizes_are_the_papers(arch, official):
    with torch.device('meta'):
        backbone = ConMIMViT(arch)
    assert sum(p.numel() for p in backbone.parameters()) == official


def test_depths_are_known(build):
    shared, own = depth_map(build()), depth_map(build(**TUNED))
    table = 'rel_pos_bias.relative_position_bias_table'
    assert shared.depths[table] == shared.last == 5
    assert shared.depths['mask_token'] == 0
    assert own.depths[f'layers.2.attn.{table}'] == 3


def test_frozen_blocks_leave_autograd_in_spite_of_the_shared_bias(build):
    backbone = randomize(build(frozen_stages=2, drop_path_rate=0.5)).train()
    seen = []
    backbone.layers[1].register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    backbone(torch.randn(2, 3, 32, 32))[-1].sum().backward()
    assert seen == [False]
    assert not backbone.layers[1].training
    assert backbone.layers[2].training
    assert backbone.cls_token.grad is None
    assert backbone.layers[2].attn.qkv.weight.grad is not None
    assert backbone.rel_pos_bias.relative_position_bias_table.grad.abs().sum() > 0


def test_other_image_sizes_and_feature_maps(build):
    backbone = build(out_type='featmap', out_indices=[1, -1])
    assert [x.shape for x in backbone(torch.randn(1, 3, 48, 24))] == [(1, 16, 6, 3)] * 2


def test_absolute_positions_and_drop_path_matter(build):
    backbone = build(use_abs_pos_emb=True, use_shared_rel_pos_bias=False)
    backbone.init_weights()
    images = torch.randn(1, 3, 32, 32)
    before = backbone(images)[-1]
    torch.nn.init.normal_(backbone.pos_embed)
    assert not torch.allclose(before, backbone(images)[-1])
    dropping = randomize(build(drop_path_rate=0.9)).train()
    assert not torch.allclose(dropping(images)[-1], dropping(images)[-1])
    dropping = randomize(build()).train()
    dropping.drop_after_pos.p = 0.5  # of the tokens, before the first block
    assert not torch.allclose(dropping(images)[-1], dropping(images)[-1])


@pytest.mark.parametrize(('settings', 'message'), [
    ({'arch': 'huge'}, 'huge'), ({'img_size': 36}, 'do not divide'), ({'use_rel_pos_bias': True}, 'one bias'),
    ({'with_cls_token': False}, 'with_cls_token=False'),
    ({'arch': {'embed_dims': 16, 'num_layers': 1, 'num_heads': 3, 'feedforward_channels': 32}}, 'does not divide')])
def test_bad_settings_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def save(path, **modules):
    state = {f'{name}.{key}': value for name, module in modules.items() for key, value in module.state_dict().items()}
    save_checkpoint({'state_dict': state}, str(path))


def test_a_pretrained_teacher_starts_fine_tuning_at_a_larger_size(build, tmp_path):
    student, teacher = randomize(build()), randomize(build())
    model = torch.nn.ModuleDict({'module': torch.nn.Sequential(teacher)})
    save(tmp_path / 'a.pth', backbone=student, momentum_encoder=model)
    tuned = build(**TUNED, img_size=48)
    tuned.init_weights()
    load_backbone(tuned, tmp_path / 'a.pth', branch='momentum', resize=True)
    expected = resize_table(teacher.rel_pos_bias.relative_position_bias_table.data, (4, 4), (6, 6))
    for mine, theirs in zip(tuned.layers, teacher.layers):
        torch.testing.assert_close(mine.attn.qkv.weight, theirs.attn.qkv.weight)
        torch.testing.assert_close(mine.attn.rel_pos_bias.relative_position_bias_table.data, expected)
    assert (tuned.ln2.weight == 1).all()
    from_student = build(**TUNED)
    load_backbone(from_student, tmp_path / 'a.pth')
    torch.testing.assert_close(from_student.cls_token, student.cls_token)


def test_the_hosts_way_to_load_is_not_overwritten_by_initialization(build, tmp_path):
    source = randomize(build())
    save(tmp_path / 'a.pth', backbone=source)
    loaded = build(init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), 'prefix': 'backbone.'})
    loaded.init_weights()
    assert all(torch.equal(*tensors) for tensors in zip(loaded.state_dict().values(), source.state_dict().values()))


def test_a_fine_tuned_encoder_starts_segmentation(build, tmp_path):
    tuned = randomize(build(**TUNED))
    save(tmp_path / 'a.pth', backbone=tuned)
    segmenter = build(**{**TUNED, 'out_type': 'featmap'}, img_size=64)
    load_backbone(segmenter, tmp_path / 'a.pth', resize=True)
    torch.testing.assert_close(segmenter.layers[0].attn.q_bias, tuned.layers[0].attn.q_bias)


def test_a_checkpoint_of_another_method_is_refused(build, tiny_arch, tmp_path):
    other = MODELS.build({'type': 'VisionTransformer', 'arch': tiny_arch, 'img_size': 32, 'patch_size': 8})
    save(tmp_path / 'a.pth', backbone=other)
    with pytest.raises(CheckpointError, match='missing'):
        load_backbone(build(), tmp_path / 'a.pth')
    plain = build(use_shared_rel_pos_bias=False)
    save(tmp_path / 'b.pth', backbone=build())
    with pytest.raises(CheckpointError, match='rel_pos_bias'):
        load_backbone(plain, tmp_path / 'b.pth')


def test_names_of_sizes():
    assert sizes_of('S') == sizes_of('small')
    assert sizes_of('small')['embed_dims'] == 384


def test_the_usual_encoder_is_the_authors_for_pre_training():
    usual = defaults(ConMIMViT)
    assert {name: usual[name] for name in ('img_size', 'patch_size', 'use_rel_pos_bias', 'use_shared_rel_pos_bias',
                                           'with_mask_token', 'final_norm', 'out_indices', 'frozen_stages')} == {
        'img_size': 224, 'patch_size': 16, 'use_rel_pos_bias': False, 'use_shared_rel_pos_bias': True,
        'with_mask_token': True, 'final_norm': True, 'out_indices': -1, 'frozen_stages': -1}
