import pytest
import timm
import torch
import torchvision
from mmengine.registry import MODELS
from timm.models import eva, vision_transformer

from mm_graft.checkpoints import convert_model, detect_layout, load_backbone, read_checkpoint
from tests.checkpoints.hub import HUB, check, images, outputs
from tests.tiny import vit_state

SMALL = dict(img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=2.)
GATED = dict(mlp_ratio=3.)  # timm's packed matrix is 3 · 16 rows high, 24 of gate and value each


def randomized(model):
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return model.eval()


def ours(name, path, **settings):
    backbone = MODELS.build(dict(type='mm_graft.TimmViT', model_name=name, **{**SMALL, **settings}))
    load_backbone(backbone, path)
    return backbone.eval()


def renamed(state, *pairs):
    for old, new in pairs:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


def dinov2(gated=False, registers=0):
    """A file as DINOv2's authors write it."""
    name = 'vit_giant_patch14_dinov2' if gated else 'vit_base_patch14_dinov2'
    state = randomized(timm.create_model(name, num_classes=0, **SMALL | (GATED if gated else {}))).state_dict()
    state['mask_token'] = torch.randn(1, 16)
    if registers:
        state['register_tokens'] = torch.randn(1, registers, 16)
    return renamed(state, ('mlp.fc1', 'mlp.w12'), ('mlp.fc2', 'mlp.w3')) if gated else state


def dinov3(gated=False):
    """A file as DINOv3's authors write it."""
    name = 'vit_huge_plus_patch16_dinov3_qkvb' if gated else 'vit_base_patch16_dinov3_qkvb'
    state = randomized(timm.create_model(name, num_classes=0, **SMALL)).state_dict()
    for block in range(2):
        query, value = (state.pop(f'blocks.{block}.attn.{part}_bias') for part in 'qv')
        state[f'blocks.{block}.attn.qkv.bias'] = torch.cat([query, torch.randn(16), value])  # the mask hides the keys'
        state[f'blocks.{block}.attn.qkv.bias_mask'] = torch.ones(48).index_fill_(0, torch.arange(16, 32), 0)
    state |= {'mask_token': torch.randn(1, 16), 'rope_embed.periods': torch.ones(2)}
    return renamed(state, ('reg_token', 'storage_tokens'), ('gamma_1', 'ls1.gamma'), ('gamma_2', 'ls2.gamma'),
                   ('fc1_g', 'w1'), ('fc1_x', 'w2'), *([('mlp.fc2', 'mlp.w3')] if gated else []))


@pytest.mark.parametrize(('gated', 'registers'), [(False, 0), (True, 0), (False, 4), (True, 3)])
def test_dinov2_gives_what_timms_own_reader_gives(tmp_path, gated, registers):
    state = dinov2(gated, registers)
    assert detect_layout(state) == 'dinov2'
    torch.save(state, tmp_path / 'a.pth')
    name = f'vit_{"giant" if gated else "base"}_patch14_{"reg4_" if registers else ""}dinov2'
    settings = (GATED if gated else {}) | (dict(reg_tokens=registers) if registers else {})
    model = timm.create_model(name, num_classes=0, **SMALL | settings).eval()
    model.load_state_dict(vision_transformer.checkpoint_filter_fn(dict(state), model))
    with torch.no_grad():
        torch.testing.assert_close(outputs(ours(name, tmp_path / 'a.pth', **settings))['tokens'],
                                   model.forward_features(images()))


@pytest.mark.parametrize('gated', [False, True])
def test_dinov3_gives_what_timms_own_reader_gives(tmp_path, gated):
    state = dinov3(gated)
    assert detect_layout(state) == 'dinov3'
    torch.save(state, tmp_path / 'a.pth')
    name = f'vit_{"huge_plus" if gated else "base"}_patch16_dinov3_qkvb'
    model = timm.create_model(name, num_classes=0, **SMALL).eval()
    model.load_state_dict(eva.checkpoint_filter_fn(dict(state), model))
    with torch.no_grad():
        expected = model.forward_features(images())
    torch.testing.assert_close(outputs(ours(name, tmp_path / 'a.pth'))['tokens'], expected)


def test_a_bias_of_keys_that_no_mask_hides_is_refused():
    state = dinov3()
    state['blocks.1.attn.qkv.bias_mask'].fill_(1)
    with pytest.raises(ValueError, match=r'layers\.1\.attn\.qkv\.bias has a bias of the keys'):
        convert_model(state, None, 'timm')


def test_dinov2s_names_there_and_back_are_the_same_bits():
    for gated in (False, True):
        state = dinov2(gated)
        back = convert_model(state, None, 'dinov2').backbone
        assert back.keys() == state.keys()
        assert all(torch.equal(back[name], state[name]) for name in state)


def test_open_clips_tower_gives_what_timms_own_reader_gives():
    state = read_checkpoint(HUB / 'open-clip')
    model = timm.create_model('vit_base_patch16_clip_quickgelu_224', num_classes=0, **SMALL).eval()
    model.load_state_dict(vision_transformer.checkpoint_filter_fn(dict(state), model), strict=False)
    backbone = ours('vit_base_patch16_clip_quickgelu_224', HUB / 'open-clip')
    with torch.no_grad():
        torch.testing.assert_close(outputs(backbone)['tokens'], model.forward_features(images()))
    check(backbone, 'open-clip')


def test_open_clips_names_there_and_back_are_the_same_bits():
    state = {name: tensor for name, tensor in read_checkpoint(HUB / 'open-clip').items()
             if name.startswith('visual.') and name != 'visual.proj'}
    back = convert_model(state, None, 'open-clip').backbone
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_tower_of_timm_in_open_clip_is_timms(tmp_path):
    model = randomized(timm.create_model('vit_base_patch16_siglip_224', num_classes=0, **SMALL))
    state = {f'visual.trunk.{name}': tensor for name, tensor in model.state_dict().items()}
    torch.save({**state, 'positional_embedding': torch.ones(2, 3), 'logit_scale': torch.ones(())}, tmp_path / 'a.pth')
    with torch.no_grad():
        torch.testing.assert_close(outputs(ours('vit_base_patch16_siglip_224', tmp_path / 'a.pth'))['pooled'],
                                   model(images()))


@pytest.mark.parametrize('old', [False, True])
def test_torchvisions_vit_gives_torchvisions_features(tmp_path, old):
    model = randomized(torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=3))
    state = model.state_dict()
    if old:
        state = renamed(state, ('mlp.0.', 'mlp.linear_1.'), ('mlp.3.', 'mlp.linear_2.'))
    torch.save(state, tmp_path / 'a.pth')
    model.heads = torch.nn.Identity()
    with torch.no_grad():
        expected = model(images())
    torch.testing.assert_close(outputs(ours('vit_base_patch16_224', tmp_path / 'a.pth'))['pooled'], expected)
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    host = MODELS.build(dict(type='VisionTransformer', arch=arch, img_size=32, patch_size=8))
    load_backbone(host, tmp_path / 'a.pth')
    host.eval()
    with torch.no_grad():
        torch.testing.assert_close(host(images())[0], expected)
    back = convert_model(state, None, 'torchvision')
    assert set(back.dropped.values()) == {'classifier'}
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in back.backbone.items())
    assert len(back.backbone) == len(state) - 2


def test_maws_and_its_clip_are_read_with_every_tensor_accounted_for():
    encoder = vit_state()
    clip = {f'vision_encoder.{name}': tensor for name, tensor in encoder.items()}
    beside = {'text_encoder.encoder.transformer.layers.layers.0.norm1.weight': torch.ones(4),
              'vision_projection': torch.ones(16, 4), 'text_projection': torch.ones(4, 4)}
    found = convert_model({**clip, **beside, 'logit_scale': torch.ones(())}, None, 'timm')
    assert {name: tensor.tolist() for name, tensor in found.backbone.items()} == {
        name: tensor.tolist() for name, tensor in encoder.items()}
    assert set(found.dropped) == {*beside, 'logit_scale'}
    assert detect_layout(encoder | {'head.weight': torch.ones(3, 16), 'head.bias': torch.ones(3)}) == 'timm'
