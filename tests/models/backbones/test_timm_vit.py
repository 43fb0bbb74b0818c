import pytest
import timm
import torch
from mmengine.registry import MODELS

from mm_graft.depth import depth_map
from mm_graft.models.backbones.timm_vit import create_vit

SMALL = dict(depth=4, embed_dim=32, num_heads=2, img_size=32, patch_size=8)
NAMES = ['vit_tiny_patch16_224', 'vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3', 'eva02_tiny_patch14_224',
         'vit_base_patch16_clip_224', 'vit_base_patch16_siglip_224', 'deit3_small_patch16_224',
         'deit_tiny_distilled_patch16_224', 'beitv2_base_patch16_224', 'vit_huge_patch14_gap_224']


def build(name='vit_tiny_patch16_224', **kwargs):
    torch.manual_seed(1)
    model = MODELS.build(dict(type='mm_graft.TimmViT', model_name=name, **SMALL) | kwargs)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter.data, std=0.2)
    return model.eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize('name', NAMES)
def test_what_it_pools_is_what_timm_pools(name, images):
    ours = build(name)
    timms = timm.create_model(name, num_classes=0, **SMALL).eval()
    timms.load_state_dict(ours.timm_model.state_dict())
    torch.testing.assert_close(ours(images)[0], timms(images), rtol=0, atol=0)
    raw = build(name, out_type='raw')
    torch.testing.assert_close(raw(images)[0], timms.forward_features(images))


@pytest.mark.parametrize('name', NAMES)
def test_every_parameter_has_a_depth_and_a_gradient_if_it_counts(name, images):
    model = build(name)
    model(images)[0].square().sum().backward()
    depths = depth_map(model).depths
    assert set(depths.values()) == set(range(6))
    assert depths['timm_model.patch_embed.proj.weight'] == 0
    assert depths['timm_model.blocks.2.norm1.weight'] == 3
    silent = {name for name, param in model.named_parameters() if param.grad is None or not param.grad.any()}
    assert not {name for name in silent if '.attn.' not in name}  # k bias moves every score of a row alike


def test_tokens_are_prefix_then_patches_row_by_row(images):
    name = 'vit_small_patch14_reg4_dinov2'
    raw, cls, mean, featmap = (build(name, out_type=kind)(images)[0] for kind in ('raw', 'cls_token', 'avg_featmap',
                                                                                 'featmap'))
    assert raw.shape == (2, 5 + 16, 32)
    torch.testing.assert_close(cls, raw[:, 0])
    torch.testing.assert_close(mean, raw[:, 5:].mean(1))
    torch.testing.assert_close(featmap[:, :, 1, 2], raw[:, 5 + 4 + 2])


def test_other_and_oblong_sizes_are_taken():
    model = build(out_type='featmap')
    assert model(torch.randn(1, 3, 24, 48))[0].shape == (1, 32, 3, 6)
    assert model.patch_resolution == (4, 4)


def test_only_the_last_of_several_outputs_is_normalized(images):
    model = build(out_type='raw', out_indices=[1, -1])
    early, late = model(images)
    torch.testing.assert_close(late, build(out_type='raw')(images)[0])
    tokens = model.timm_model.norm_pre(model.timm_model._pos_embed(model.timm_model.patch_embed(images)))
    for block in model.timm_model.blocks[:2]:
        tokens = block(tokens)
    torch.testing.assert_close(early, tokens)
    bare = build(out_type='raw', final_norm=False)
    torch.testing.assert_close(bare.timm_model.norm(bare(images)[0]), late)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'vit_small_patch16_dinov3', 'beitv2_base_patch16_224'])
def test_hidden_patches_cannot_be_seen_and_visible_ones_can(name, images):
    model = build(name, out_type='raw', with_mask_token=True)
    mask = torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 5] = True  # row 1, column 1
    output = model(images, mask)[0]
    changed = images.clone()
    changed[..., 8:16, 8:16] += 1
    torch.testing.assert_close(model(changed, mask)[0], output, rtol=0, atol=0)
    changed = images.clone()
    changed[..., 8:16, 16:24] += 1
    assert not torch.allclose(model(changed, mask)[0], output)
    assert not torch.allclose(model(images)[0], output)
    output.sum().backward()
    assert model.timm_model.mask_token.grad.any()
    assert depth_map(model).depths['timm_model.mask_token'] == 0
    assert model.encode_masked(images, mask)[0].equal(output)


def test_the_mask_token_starts_small_and_not_at_zero():
    token = MODELS.build(dict(type='mm_graft.TimmViT', model_name='vit_small_patch16_224', depth=1, img_size=32,
                              out_type='raw', with_mask_token=True)).timm_model.mask_token
    assert token.std().item() == pytest.approx(0.02, rel=0.15)


def test_blocks_are_counted_from_both_ends(images):
    assert build(out_type='raw', out_indices=[-4, -1]).out_indices == [0, 3]
    with pytest.raises(ValueError, match='out_indices has -5, but there are 4 blocks'):
        build(out_type='raw', out_indices=-5)


def test_frozen_blocks_stay_in_eval_mode():
    model = build(drop_path_rate=0.5)
    model.timm_model.blocks[0].requires_grad_(False)
    assert model.train() is model
    assert [block.training for block in model.timm_model.blocks] == [False, True, True, True]


@pytest.mark.parametrize(('name', 'settings', 'message'), [
    ('vit_tiny_patch16', {}, r"no model 'vit_tiny_patch16'; did you mean one of .*'vit_tiny_patch16_224'"),
    ('vit_base_patch16_siglip_224', dict(out_type='cls_token'), 'no class token'),
    ('vit_tiny_patch16_224', dict(out_indices=[0, 3]), "choose 'cls_token' or 'avg_featmap'"),
    ('vit_tiny_patch16_224', dict(final_norm=False), "choose 'cls_token' or 'avg_featmap'"),
    ('vit_tiny_patch16_224', dict(out_type='mean'), "out_type='mean' is unknown"),
    ('vit_tiny_patch16_224', dict(out_indices=4, out_type='raw'), 'out_indices has 4, but there are 4 blocks')])
def test_what_does_not_exist_is_said(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, **settings)


def test_only_plain_vits_are_taken():
    with pytest.raises(ValueError, match=r'convnext_atto \(ConvNeXt\) is not a plain ViT'):
        create_vit('convnext_atto')
    with pytest.raises(ValueError, match=r'cait_xxs24_224 \(Cait\) is not a plain ViT'):  # else at the first image
        create_vit('cait_xxs24_224', depth=1)


def test_a_vit_without_prefix_tokens_gives_what_timm_makes_of_it():
    """Of one with relative positions alone timm gives no empty prefix."""
    vit = build('vit_relpos_small_patch16_224', img_size=224, out_type='raw')
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(vit(images)[-1], vit.timm_model.forward_features(images))


def test_patches_are_not_hidden_without_a_token(images):
    with pytest.raises(ValueError, match='with_mask_token=True'):
        build()(images, torch.ones(2, 16, dtype=torch.bool))
