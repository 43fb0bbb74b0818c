import pytest
import torch
from torch import nn

from mm_graft.models.necks.localmim_neck import LocalMIMDenseNeck, LocalMIMNeck, rescaling_layers
from tests.defaults import defaults

TINY = {'in_channels': 16, 'grids': 4, 'embed_dims': 8, 'num_heads': 2, 'out_channels': 6}


def build(neck=LocalMIMNeck, **kwargs):
    neck = neck(**{**TINY, **kwargs})
    neck.init_weights()
    return neck


def visible(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Class token and 4 of 16 patches, and an order."""
    return torch.randn(batch, 5, 16), torch.rand(batch, 16).argsort(1)


@pytest.mark.parametrize(('scale', 'layers', 'channels'), [
    (8, ['ConvTranspose2d', 'LayerNorm2d', 'GELU', 'ConvTranspose2d', 'LayerNorm2d', 'GELU', 'ConvTranspose2d'], 2),
    (4, ['ConvTranspose2d', 'LayerNorm2d', 'GELU', 'ConvTranspose2d'], 4),
    (2, ['ConvTranspose2d'], 8), (1, [], 16), (0.5, ['AvgPool2d'], 16), (0.25, ['AvgPool2d'], 16)])
def test_each_doubling_halves_the_channels_and_pooling_keeps_them(scale, layers, channels):
    modules, left = rescaling_layers(scale, 16)
    assert [type(module).__name__ for module in modules] == layers
    assert left == channels
    assert nn.Sequential(*modules)(torch.randn(1, 16, 4, 4)).shape == (1, channels, 4 * scale, 4 * scale)


def test_every_scale_has_its_own_grid():
    taps, restore = visible()
    preds = build(scales=(4, 2, 1, 0.5, 0.25))([taps] * 5, restore)
    assert [pred.shape for pred in preds] == [(2, n, 6) for n in (256, 64, 16, 4, 1)]


def test_any_number_of_taps_with_widths_of_their_own():
    neck = build(in_channels=[16, 4], scales=(1, 2), out_channels=[5, 7], embed_dims=[8, 16])
    taps, restore = visible()
    preds = neck([taps, torch.randn(2, 5, 4)], restore)
    assert [pred.shape for pred in preds] == [(2, 16, 5), (2, 64, 7)]


def test_grids_need_not_be_square():
    neck = build(grids=[(2, 8)], scales=(0.5, ))
    taps, restore = visible()
    assert neck([taps], restore)[0].shape == (2, 4, 6)


def test_no_decoder_sees_another_ones_tap():
    neck, (taps, restore) = build(), visible()
    sources = [taps.clone().requires_grad_() for _ in range(4)]
    neck(sources, restore)[1].sum().backward()
    assert sources[1].grad.abs().sum() > 0
    assert all(source.grad is None for source in (sources[0], sources[2], sources[3]))


def test_the_class_token_is_attended_to_but_not_predicted_from():
    neck, (taps, restore) = build(scales=(1, )), visible()
    other = taps.clone()
    other[:, 0] += 1
    assert neck([taps], restore)[0].shape[1] == 16
    assert not torch.equal(neck([taps], restore)[0], neck([other], restore)[0])


def test_tokens_are_decoded_in_their_places_and_pooled_by_rows_and_columns():
    decoder = build(grids=[(2, 8)], scales=(0.5, )).decoders[0]
    (tokens, restore), (rows, columns) = visible(), decoder.grid
    places = restore.argsort(1)[:, :4]  # where the visible ones stand
    embedded = decoder.embed(tokens)
    whole = decoder.mask_token.expand(2, 17, -1).clone()
    for image in range(2):
        for number, place in enumerate(places[image].tolist(), start=1):
            whole[image, 1 + place] = embedded[image, number]
    whole[:, 1:] += decoder.pos_embed
    whole[:, 0] = embedded[:, 0]
    normed = decoder.norm(decoder.blocks(whole)[:, 1:]).view(2, rows // 2, 2, columns // 2, 2, 8)
    pooled = normed.mean((2, 4)).flatten(1, 2)  # (2, 1·4, 8)
    weight, bias = decoder.pred[-1].weight[:, :, 0, 0], decoder.pred[-1].bias
    torch.testing.assert_close(decoder(tokens, restore), pooled @ weight.T + bias)


def test_a_dense_map_is_read_row_by_row():
    decoder = build(LocalMIMDenseNeck, in_channels=[16], grids=[(2, 4)], scales=(1, )).decoders[0]
    maps = torch.randn(2, 16, 2, 4)
    tokens = torch.stack([maps[:, :, row, column] for row in range(2) for column in range(4)], 1)
    decoded = decoder.norm(decoder.blocks(decoder.embed(tokens) + decoder.pos_embed))
    weight, bias = decoder.pred[-1].weight[:, :, 0, 0], decoder.pred[-1].bias
    torch.testing.assert_close(decoder(maps), decoded @ weight.T + bias)


def test_a_missing_tap_leaves_its_decoder_alone():
    neck, (taps, restore) = build(), visible()
    preds = neck([None, taps, taps, None], restore)
    assert [pred is None for pred in preds] == [True, False, False, True]
    sum(pred.sum() for pred in preds if pred is not None).backward()
    assert all(parameter.grad is None for parameter in neck.decoders[0].parameters())
    assert all(parameter.grad is not None for parameter in neck.decoders[1].parameters())


def test_initial_weights_are_the_authors():
    decoder = build().decoders[0]
    assert decoder.mask_token.any()
    assert not decoder.embed.bias.any()
    assert decoder.embed.weight.abs().max() <= (6 / (16 + 8))**0.5
    assert decoder.pred[0].bias.any()  # PyTorch's own


def test_the_maps_of_a_dense_encoder_are_decoded_on_their_own_grids():
    neck = build(LocalMIMDenseNeck, in_channels=[4, 8, 8], grids=[4, 2, (1, 2)], scales=(1, 2, 1))
    preds = neck([torch.randn(2, 4, 4, 4), torch.randn(2, 8, 2, 2), torch.randn(2, 8, 1, 2)])
    assert [pred.shape for pred in preds] == [(2, 16, 6), (2, 16, 6), (2, 2, 6)]
    assert 'decoders.0.mask_token' not in neck.state_dict()  # would never have a gradient
    with pytest.raises(ValueError, match='a map of'):
        neck([torch.randn(2, 4, 4, 4)] * 3)


def test_depth_heads_and_width_are_those_asked_for():
    neck = build(depth=2, mlp_ratio=3., num_heads=4)
    assert len(neck.decoders[0].blocks) == 2
    assert neck.decoders[0].blocks[0].attn.num_heads == 4
    assert neck.decoders[0].blocks[0].ffn.feedforward_channels == 24
    assert build(norm_cfg={'type': 'LN', 'eps': 0.5}).decoders[0].norm.eps == 0.5


@pytest.mark.parametrize(('width', 'bins', 'counts'), [(768, 9, [1153435, 1122075, 994331, 994331])])
def test_decoders_have_as_many_parameters_as_the_authors(width, bins, counts):
    neck = LocalMIMNeck(in_channels=width, out_channels=3 * bins)
    assert [sum(parameter.numel() for parameter in decoder.parameters()) for decoder in neck.decoders] == counts


@pytest.mark.parametrize(('options', 'message'), [
    ({'scales': (3, )}, 'power of two'),
    ({'scales': (0, )}, 'power of two'),
    ({'scales': (0.125, )}, 'does not fit the grid'),
    ({'grids': 7, 'scales': (0.5, )}, 'does not fit the grid'),
    ({'scales': (4, ), 'embed_dims': 6 * 4, 'num_heads': 5}, 'does not divide'),
    ({'scales': (16, )}, 'cannot be halved'),
    ({'in_channels': [16, 16]}, 'in_channels has 2 entries for 4 scales'),
])
def test_what_cannot_work_is_refused_when_it_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_another_number_of_taps_is_refused():
    taps, restore = visible()
    with pytest.raises(ValueError, match='3 taps came to 4 decoders'):
        build()([taps] * 3, restore)


def test_the_usual_decoders_are_those_of_a_vit_base():
    for neck in (LocalMIMNeck, LocalMIMDenseNeck):
        assert defaults(neck) == {'scales': (4, 2, 1, 0.5), 'grids': 14, 'out_channels': 27, 'embed_dims': 256,
                                  'num_heads': 8, 'depth': 1, 'mlp_ratio': 4.0, 'norm_cfg': None}
