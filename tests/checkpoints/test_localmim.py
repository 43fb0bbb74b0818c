import pytest
import torch

from mm_graft.checkpoints import CheckpointError, Converted, convert_backbone, detect_layout, load_backbone
from mm_graft.checkpoints.localmim import LOCALMIM, plain_encoder, sobel_kernels
from mm_graft.models.backbones.visible_patch_vit import VisiblePatchViT


@pytest.mark.parametrize(('theirs', 'ours'), [
    ('cls_token', 'backbone.cls_token'),
    ('patch_embed.proj.bias', 'backbone.patch_embed.projection.bias'),
    ('blocks.10.attn.qkv.weight', 'backbone.layers.10.attn.qkv.weight'),
    ('norm.2.bias', 'backbone.tap_norms.2.bias'),
    ('decoder.1.mask_token', 'neck.decoders.1.mask_token'),
    ('decoder.3.blocks.0.mlp.fc1.weight', 'neck.decoders.3.blocks.0.ffn.layers.0.0.weight'),
    ('decoder.0.norm.weight', 'neck.decoders.0.norm.weight'),
    ('decoder.0.pred.3.bias', 'neck.decoders.0.pred.3.bias'),
    ('hog_enc.0.conv.weight', None),
])
def test_names_are_mapped_one_to_one(theirs, ours):
    assert LOCALMIM.names.to_host(theirs) == ours


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match=r"fit no rule of LocalMIM's layout, among them \['head.weight'\]"):
        LOCALMIM.read({'head.weight': torch.zeros(1)})


def test_the_random_pairs_of_the_hog_layers_are_kept_in_order():
    state = {f'hog_enc.{k}.conv.bias': torch.tensor([k, -k]) for k in (1, 0)}
    assert LOCALMIM.read(state).backbone['target_generator.bias'].tolist() == [[0, 0], [1, -1]]


def test_what_is_read_is_written_back_alike():
    state = {'cls_token': torch.ones(1, 1, 4), 'norm.1.weight': torch.ones(4)}
    for scale in range(2):
        table = torch.cat([torch.zeros(1, 1, 4), torch.randn(1, 4, 4)], 1)
        state |= {f'decoder.{scale}.pos_embed': table, f'hog_enc.{scale}.conv.weight': sobel_kernels(),
                  f'hog_enc.{scale}.conv.bias': torch.tensor([scale, 5.0])}
    written = LOCALMIM.write(LOCALMIM.read(state).backbone).backbone
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())
    without = {name: tensor for name, tensor in state.items() if not name.endswith('bias')}
    assert LOCALMIM.write(LOCALMIM.read(without).backbone).backbone.keys() == without.keys()


def test_the_row_of_the_class_token_is_cut_from_the_decoders_tables_only():
    table = torch.arange(5.0).view(1, 5, 1).expand(1, 5, 4)  # each row holds its number
    read = LOCALMIM.read({'pos_embed': table, 'decoder.0.pos_embed': table}).backbone
    assert read['backbone.pos_embed'].equal(table)
    assert read['neck.decoders.0.pos_embed'][0, :, 0].tolist() == [1, 2, 3, 4]


def test_the_encoder_is_everything_but_decoders_and_hog():
    state = dict.fromkeys(['cls_token', 'norm.0.bias', 'decoder.0.embed.bias', 'hog_enc.0.conv.weight'], torch.ones(1))
    converted = convert_backbone(state, 'localmim')
    assert set(converted.backbone) == {'cls_token', 'tap_norms.0.bias'}
    assert converted.dropped == {'decoder.0.embed.bias': 'LocalMIM decoder', 'hog_enc.0.conv.weight': 'HOG layer'}
    with pytest.raises(ValueError, match='one encoder'):
        convert_backbone(state, 'localmim', 'momentum')


def test_the_sobel_kernels_are_the_authors(golden):
    state = torch.load(next(golden.glob('localmim_checkpoint-*.pth')), weights_only=True)['model']
    assert state['hog_enc.0.conv.weight'].equal(sobel_kernels())


def test_for_a_plain_vit_the_last_tap_norm_is_the_final_norm():
    taps = {f'tap_norms.{k}.weight': torch.tensor(k) for k in range(11)}
    plain = plain_encoder(Converted(taps))
    assert plain.backbone == {'ln1.weight': torch.tensor(10)}
    assert len(plain.dropped) == 10
    inside = plain_encoder(Converted({f'backbone.{name}': tensor for name, tensor in taps.items()},
                                     {'head': 'classifier'}, {'backbone.tap_norms.3.weight': 'norm.3.weight'}),
                           'backbone.')
    assert inside.backbone == {'backbone.ln1.weight': torch.tensor(10)}
    assert len(inside.dropped) == 11
    assert inside.dropped['norm.3.weight'] == inside.dropped['backbone.tap_norms.4.weight'] == 'norm of a lower tap'
    without = Converted({'cls_token': torch.zeros(1)})
    assert plain_encoder(without) == without


def test_the_authors_file_is_recognized_and_fills_this_encoder(golden):
    state = torch.load(next(golden.glob('localmim_checkpoint-*.pth')), weights_only=True)['model']
    assert detect_layout(state) == 'localmim'
    dims, depth = state['cls_token'].shape[-1], sum('attn.qkv.weight' in n and n[0] == 'b' for n in state)
    arch = {'embed_dims': dims, 'num_layers': depth, 'num_heads': 2, 'feedforward_channels': 4 * dims}
    encoder = VisiblePatchViT(arch)
    load_backbone(encoder, next(golden.glob('localmim_checkpoint-*.pth')))
    torch.testing.assert_close(encoder.tap_norms[3].weight, state['norm.3.weight'])
    with pytest.raises(CheckpointError, match='have another shape'):
        load_backbone(VisiblePatchViT({**arch, 'embed_dims': 2 * dims}), next(golden.glob('localmim_checkpoint-*.pth')))


def test_a_checkpoint_of_this_package_fills_a_plain_vit(tmp_path, tiny_arch):
    from mmpretrain.models import VisionTransformer
    source = VisiblePatchViT(tiny_arch, img_size=16, patch_size=4, taps=(1, 4))
    source.tap_norms[1].bias.data.fill_(3)
    torch.save({f'backbone.{name}': tensor for name, tensor in source.state_dict().items()}, tmp_path / 'a.pth')
    vit = VisionTransformer(tiny_arch, img_size=16, patch_size=4, out_indices=-1)
    load_backbone(vit, tmp_path / 'a.pth')
    assert (vit.ln1.bias == 3).all()
    torch.testing.assert_close(vit.layers[2].ffn.layers[1].weight, source.layers[2].ffn.layers[1].weight)


def test_the_norm_behind_the_mean_of_the_patches_stays_as_it_is(golden):
    from mmpretrain.models import VisionTransformer
    state = torch.load(next(golden.glob('localmim_checkpoint-*.pth')), weights_only=True)['model']
    dims, depth = state['cls_token'].shape[-1], sum('attn.qkv.weight' in n and n[0] == 'b' for n in state)
    arch = {'embed_dims': dims, 'num_layers': depth, 'num_heads': 2, 'feedforward_channels': 4 * dims}
    vit = VisionTransformer(arch, out_indices=-1, out_type='avg_featmap', final_norm=False)
    vit.ln2.bias.data.fill_(5)
    load_backbone(vit, next(golden.glob('localmim_checkpoint-*.pth')))
    assert (vit.ln2.bias == 5).all()
    torch.testing.assert_close(vit.cls_token.data, state['cls_token'])
