import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.models.masked_input import check_grid, check_tokens, encode_masked, own_mask_token, patches_hidden
from tests.models.selfsup.conmim_builders import PLAIN, TIMM, TINY

OURS = {'type': 'mm_graft.ConMIMViT', 'arch': TINY, 'img_size': 32, 'patch_size': 8}
BACKBONES = [PLAIN, TIMM, OURS, {**PLAIN, 'type': 'mm_graft.GraftViT'}]


def build(config):
    backbone = MODELS.build(config)
    backbone.eval()
    return backbone


@pytest.mark.parametrize('config', BACKBONES)
def test_what_is_hidden_cannot_be_seen_and_the_rest_can(config):
    backbone = build(config)
    token = own_mask_token(backbone, hides=True)
    images, mask = torch.randn(2, 3, 32, 32), torch.rand(2, 16) < 0.5
    hidden = mask.view(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)

    def encode(images):
        return encode_masked(backbone, images, mask, token)

    torch.testing.assert_close(encode(torch.where(hidden, 7.0, images)), encode(images))
    assert not torch.allclose(encode(torch.where(hidden, images, 7.0)), encode(images))
    assert encode(images).shape == (2, backbone.num_extra_tokens + 16, 16)


@pytest.mark.parametrize('config', BACKBONES)
def test_an_empty_mask_changes_nothing(config):
    backbone = build(config)
    images = torch.randn(2, 3, 32, 32)
    encoded = encode_masked(backbone, images, torch.zeros(2, 16, dtype=torch.bool), own_mask_token(backbone, True))
    torch.testing.assert_close(encoded, backbone(images)[-1])


def test_a_token_is_added_only_where_there_is_none_and_rests_where_nothing_is_hidden():
    assert own_mask_token(build(PLAIN), hides=True).shape == (1, 1, 16)
    assert own_mask_token(build(PLAIN), hides=False) is None
    assert 0.01 < own_mask_token(build(PLAIN), hides=True).abs().max() <= 0.02
    for config in (TIMM, OURS):
        backbone = build(config)
        assert own_mask_token(backbone, hides=True) is None
        token = dict(backbone.named_parameters())['timm_model.mask_token' if config is TIMM else 'mask_token']
        assert token.requires_grad
        own_mask_token(backbone, hides=False)
        assert not token.requires_grad
        with pytest.raises(ValueError, match='with_mask_token=True'):
            own_mask_token(build({**config, 'with_mask_token': False}), hides=True)


def test_the_hook_is_gone_afterwards_even_after_an_error():
    backbone = build(PLAIN)
    with pytest.raises(RuntimeError), patches_hidden(backbone.patch_embed, torch.ones(1, 16).bool(), torch.ones(1)):
        raise RuntimeError
    assert not backbone.patch_embed._forward_hooks


def test_encoders_without_all_tokens_and_masks_of_another_grid_are_refused():
    check_tokens(build(PLAIN))
    siglip = {'type': 'mm_graft.TimmViT', 'model_name': 'vit_base_patch16_siglip_224', 'depth': 1, 'embed_dim': 16,
              'num_heads': 2, 'img_size': 32, 'patch_size': 8, 'out_type': 'raw'}
    for config in ({**PLAIN, 'out_type': 'cls_token'}, siglip):
        with pytest.raises(ValueError, match='set out_type'):
            check_tokens(build(config))
    generator = MODELS.build({'type': 'mm_graft.RandomCellMask', 'img_size': 64, 'patch_size': 8, 'cell_size': 16})
    with pytest.raises(ValueError, match='8 × 8 patches do not fit an encoder of 4 × 4'):
        check_grid(build(PLAIN), generator)
    check_grid(build(PLAIN), None)
