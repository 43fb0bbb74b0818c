import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.depth import depth_map
from mm_graft.models.backbones.visible_patch_vit import VisiblePatchViT
from mm_graft.models.position_table import sincos_position_table
from tests.defaults import defaults


def build(arch: dict, **kwargs) -> VisiblePatchViT:
    vit = VisiblePatchViT(arch, **{'img_size': 32, 'patch_size': 4, 'taps': (1, 3, 4), **kwargs})
    vit.init_weights()
    return vit


def test_only_a_quarter_and_the_class_token_are_encoded(tiny_arch):
    taps, mask, restore = build(tiny_arch).encode_visible(torch.randn(2, 3, 32, 32))
    assert [tap.shape for tap in taps] == [(2, 17, 16)] * 3
    assert mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [48, 48]
    assert restore.sort(1).values[0].tolist() == list(range(64))


def test_hidden_pixels_reach_no_tap(tiny_arch):
    vit, images, noise = build(tiny_arch), torch.randn(1, 3, 32, 32), torch.rand(1, 64)
    _, mask, _ = vit.encode_visible(images, noise)
    hidden = mask.unflatten(1, (8, 8)).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    other = torch.where(hidden, torch.randn_like(images), images)
    for ours, theirs in zip(vit.encode_visible(images, noise)[0], vit.encode_visible(other, noise)[0]):
        assert torch.equal(ours, theirs)


def test_with_a_full_view_the_taps_are_the_normed_outputs_of_their_blocks(tiny_arch):
    vit, images, noise = build(tiny_arch), torch.randn(2, 3, 32, 32), torch.rand(2, 64)
    outputs = []
    for block in vit.layers:
        block.register_forward_hook(lambda _, __, output: outputs.append(output))
    taps = vit.encode_visible(images, noise)[0]
    for norm, tap, depth in zip(vit.tap_norms, taps, vit.taps):
        torch.testing.assert_close(tap, norm(outputs[depth - 1]))


def test_visible_patches_come_in_the_order_of_the_noise_each_with_its_own_position(tiny_arch):
    vit, images, noise = build(tiny_arch), torch.randn(2, 3, 32, 32), torch.rand(2, 64)
    torch.nn.init.normal_(vit.pos_embed)
    seen = []
    vit.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    vit.encode_visible(images, noise)
    patches = vit.patch_embed(images)[0]
    for image, order in enumerate(noise.argsort(1)[:, :16].tolist()):
        expected = [vit.cls_token[0, 0] + vit.pos_embed[0, 0],
                    *(patches[image, place] + vit.pos_embed[0, 1 + place] for place in order)]
        torch.testing.assert_close(seen[0][image], torch.stack(expected))


def test_unwanted_taps_are_not_computed(tiny_arch):
    taps = build(tiny_arch).encode_visible(torch.randn(1, 3, 32, 32), scales={2})[0]
    assert taps[:2] == [None, None]
    assert taps[2] is not None


def test_the_mask_follows_the_global_generator(tiny_arch):
    vit, images = build(tiny_arch), torch.randn(1, 3, 32, 32)
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(vit.encode_visible(images)[1])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_called_by_itself_it_is_the_hosts_vit_with_the_last_tap_norm(tiny_arch):
    vit, images = build(tiny_arch), torch.randn(1, 3, 32, 32)
    host = MODELS.build(dict(type='VisionTransformer', arch=tiny_arch, img_size=32, patch_size=4, out_type='raw'))
    state = vit.state_dict()
    renamed = {name.replace('tap_norms.2', 'ln1'): state[name] for name in state}
    host.load_state_dict({name: renamed[name] for name in host.state_dict()})
    torch.testing.assert_close(vit(images)[0], host(images)[0])


def test_by_default_it_taps_the_second_and_fourth_block_from_both_ends():
    arch = {'embed_dims': 8, 'num_layers': 12, 'num_heads': 2, 'feedforward_channels': 16}
    assert VisiblePatchViT(arch, img_size=32, patch_size=8).taps == (2, 4, 10, 12)


def test_tap_norms_are_as_deep_as_their_blocks(tiny_arch):
    depths = depth_map(build(tiny_arch)).depths
    assert [depths[f'tap_norms.{k}.weight'] for k in range(3)] == [1, 3, 4]
    assert depths['pos_embed'] == 0


def test_positions_are_fixed_and_stay_so(tiny_arch):
    vit = build(tiny_arch)
    sum(tap.sum() for tap in vit.encode_visible(torch.randn(1, 3, 32, 32))[0]).backward()
    assert vit.pos_embed.grad is None
    assert not vit.pos_embed[:, 0].any()
    assert all(parameter.grad is not None for name, parameter in vit.named_parameters() if name != 'pos_embed')


def test_other_masking_and_sizes_change_what_is_seen(tiny_arch):
    assert build(tiny_arch, mask_ratio=0.5).num_visible == 32
    wide = build(tiny_arch, img_size=(32, 48))
    assert wide.encode_visible(torch.randn(1, 3, 32, 48))[1].shape == (1, 96)
    assert (wide.num_patches, wide.num_visible) == (96, 24)


def test_initial_weights_are_the_authors(tiny_arch):
    vit = build(tiny_arch)
    projection, qkv = vit.patch_embed.projection.weight, vit.layers[0].attn.qkv
    assert 0.9 < projection.abs().max() / (6 / (16 + 48))**0.5 <= 1  # Xavier's bound for 48 numbers in and 16 out
    assert 0.9 < qkv.weight.abs().max() / (6 / (16 + 48))**0.5 <= 1
    assert not qkv.bias.any()
    assert vit.cls_token.std().item() == pytest.approx(0.02, rel=0.5)
    torch.testing.assert_close(vit.pos_embed[0, 1:], sincos_position_table(8, 8, 16))


def test_weights_that_a_file_gives_are_not_overwritten(tiny_arch, tmp_path):
    source = build(tiny_arch)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter += 1
    torch.save({'state_dict': source.state_dict()}, tmp_path / 'a.pth')
    loaded = build(tiny_arch, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    assert all(torch.equal(*pair) for pair in zip(loaded.state_dict().values(), source.state_dict().values()))
    other = build(tiny_arch, init_cfg=dict(type='TruncNormal', layer='Linear', std=9.0))
    assert other.layers[0].attn.qkv.weight.abs().max() < 1


@pytest.mark.parametrize(('options', 'message'), [
    ({'taps': (0, 2)}, 'choose depths in 1…4'),
    ({'taps': (5, )}, 'choose depths in 1…4'),
    ({'taps': ()}, 'choose depths in 1…4'),
    ({'taps': (1, 2)}, r'above 2 without a gradient; add 4'),
    ({'with_cls_token': False}, 'with_cls_token=False'),
    ({'img_size': 30}, 'patches of 4×4 pixels do not divide an image of 30×30'),
    ({'mask_ratio': 1.}, 'leaves 0 of 64'),
    ({'mask_ratio': 0.}, 'leaves 64 of 64'),
])
def test_what_cannot_work_is_refused_when_it_is_built(tiny_arch, options, message):
    with pytest.raises(ValueError, match=message):
        build(tiny_arch, **options)


def test_images_of_another_size_are_refused(tiny_arch):
    with pytest.raises(ValueError, match='built for'):
        build(tiny_arch).encode_visible(torch.zeros(1, 3, 16, 16))


def test_configs_of_earlier_runs_find_it_by_its_old_name(tiny_arch):
    assert MODELS.get('mm_graft.LocalMIMViT') is VisiblePatchViT


def test_its_mode_is_set_and_the_module_returned(tiny_arch):
    vit = build(tiny_arch)
    assert vit.eval() is vit
    assert not vit.layers[0].training


def test_three_quarters_are_hidden_unless_told_otherwise():
    usual = defaults(VisiblePatchViT)
    assert (usual['img_size'], usual['patch_size'], usual['mask_ratio']) == (224, 16, 0.75)
