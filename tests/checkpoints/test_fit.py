import pytest
import torch
from mmengine.registry import MODELS
from timm.models._manipulate import adapt_input_conv

from mm_graft.checkpoints import CheckpointError, load_backbone
from mm_graft.checkpoints.fit import adapt_stem, fit


@pytest.fixture
def build(tiny_arch):
    def build(kind='VisionTransformer', img_size=32, **options):
        return MODELS.build(dict(type=kind, arch=tiny_arch, img_size=img_size, patch_size=8, **options))
    return build


def saved(module, path):
    torch.save({'state_dict': {f'backbone.{name}': tensor for name, tensor in module.state_dict().items()}}, path)
    return path


def test_positions_are_resized_only_on_request(build, tmp_path):
    path, larger = saved(build(), tmp_path / 'a.pth'), build(img_size=48)
    with pytest.raises(CheckpointError, match='resize=True'):
        load_backbone(larger, path)
    load_backbone(larger, path, resize=True)
    assert larger.pos_embed.shape == (1, 37, 16)


def test_another_width_is_refused_with_or_without_resizing(build, tiny_arch, tmp_path):
    path = saved(build(), tmp_path / 'a.pth')
    wide = MODELS.build(dict(type='VisionTransformer', arch={**tiny_arch, 'embed_dims': 32}, img_size=48, patch_size=8))
    for resize in (False, True):
        with pytest.raises(CheckpointError, match='another shape' if resize else 'positions are of 4 × 4 patches'):
            load_backbone(wide, path, resize=resize)


def test_what_one_use_needs_and_another_not_is_left_out_or_fresh(build):
    source = {**build().state_dict(), 'mask_token': torch.zeros(1, 1, 16)}
    fitted = fit(build(final_norm=False, out_type='avg_featmap'), source)
    assert set(fitted.dropped) == {'mask_token', 'ln1.weight', 'ln1.bias'}
    assert set(fitted.fresh) == {'ln2.weight', 'ln2.bias'}


def test_norms_within_blocks_are_never_optional(build):
    source = build().state_dict()
    del source['layers.1.ln2.weight']
    assert 'layers.1.ln2.weight' not in fit(build(), source).tensors


@pytest.mark.parametrize('kind', ['BEiTViT', 'mmseg.BEiT'])
def test_a_shared_table_is_copied_into_the_blocks_of_the_hosts_beit(build, tiny_arch, kind):
    shared = build('mm_graft.ConMIMViT', layer_scale_init_value=0.1)
    shared.rel_pos_bias.relative_position_bias_table.data.normal_()
    if kind == 'BEiTViT':
        target = build(kind, use_rel_pos_bias=True, use_shared_rel_pos_bias=False, final_norm=False, out_type='raw')
    else:
        import mmseg.models  # noqa: F401
        target = MODELS.build(dict(type=kind, img_size=(32, 32), patch_size=8, embed_dims=16, num_layers=4, num_heads=2,
                                   mlp_ratio=2, init_values=0.1))
    fitted = fit(target, shared.state_dict())
    target.load_state_dict(fitted.tensors, strict=True)
    tables = [tensor for name, tensor in target.state_dict().items() if name.endswith('relative_position_bias_table')]
    assert len(tables) == 4
    assert all(table.equal(shared.rel_pos_bias.relative_position_bias_table.data) for table in tables)


def test_the_stem_is_adapted_as_timm_does_and_only_on_request(build, tmp_path):
    path = saved(build(), tmp_path / 'a.pth')
    name = 'patch_embed.projection.weight'
    weight = torch.load(path)['state_dict'][f'backbone.{name}']
    for channels in (1, 2, 5, 7):
        vit = build(patch_cfg=dict(in_channels=channels))
        with pytest.raises(CheckpointError, match='channels=True adapts it'):
            load_backbone(vit, path)
        load_backbone(vit, path, channels=True)
        torch.testing.assert_close(vit.state_dict()[name], adapt_input_conv(channels, weight))


def test_a_patch_whose_channels_are_alike_gives_what_it_gave():
    name, weight = 'patch_embed.proj.weight', torch.randn(4, 3, 2, 2)
    for channels in (1, 6):
        adapted = adapt_stem({name: weight}, {name: torch.empty(4, channels, 2, 2)})[name]
        torch.testing.assert_close(adapted.sum(1), weight.sum(1))
    tensors = {name: weight}
    assert adapt_stem(tensors, {name: torch.empty(4, 3, 2, 2)}) is tensors
