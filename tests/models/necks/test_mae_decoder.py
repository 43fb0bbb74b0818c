import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.models.necks.mae_decoder import MAEPretrainDecoder
from tests.defaults import defaults
from tests.tiny import mae

SETTINGS = {key: value for key, value in mae()['neck'].items() if key not in ('type', 'num_patches')}


def build(**kwargs):
    torch.manual_seed(5)
    decoder = MODELS.build(SETTINGS | kwargs)
    decoder.init_weights()
    return decoder


def test_on_a_square_grid_it_is_the_hosts_to_the_bit():
    host, ours = build(type='MAEPretrainDecoder', num_patches=16), build(type='mm_graft.MAEPretrainDecoder', grid=4)
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in host.state_dict().items())
    tokens, order = torch.randn(2, 5, 16), torch.rand(2, 16).argsort(1)
    assert torch.equal(ours(tokens, order), host(tokens, order))


@pytest.mark.parametrize('grid', [(2, 8), (8, 2), (3, 5)])
def test_the_table_has_the_rows_and_columns_of_the_grid(grid):
    table = build(type='mm_graft.MAEPretrainDecoder', grid=grid).decoder_pos_embed[0, 1:].reshape(*grid, 8)
    assert len(table[:, 0, :4].unique(dim=0)) == grid[0]
    assert len(table[0, :, 4:].unique(dim=0)) == grid[1]
    assert torch.equal(table[..., :4], table[:, :1, :4].expand(*grid, 4))


def test_another_number_of_patches_is_refused():
    decoder = build(type='mm_graft.MAEPretrainDecoder', grid=(2, 8))
    with pytest.raises(ValueError, match=r'15 patches came to a decoder for 2×8; give neck\.grid'):
        decoder(torch.randn(1, 5, 16), torch.rand(1, 15).argsort(1))


def test_the_usual_grid_is_that_of_224_pixels():
    assert defaults(MAEPretrainDecoder) == {'grid': 14}


def test_an_initialization_of_its_own_is_obeyed():
    init = dict(type='Constant', layer='Linear', val=0.5)
    assert (build(type='mm_graft.MAEPretrainDecoder', grid=4, init_cfg=init).decoder_embed.weight == 0.5).all()
