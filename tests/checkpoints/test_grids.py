import pytest
import torch

from mm_graft.checkpoints.grids import find_grid, is_positional, recognize, to_grid
from mm_graft.checkpoints.resize import num_displacements
from mm_graft.models.position_table import mocov3_position_table, sincos_position_table


def learned(count, dims=8):
    return {'pos_embed': torch.randn(1, count, dims)}


def fixed(grid, dims=16):
    return {'pos_embed': torch.cat([torch.zeros(1, 1, dims), sincos_position_table(*grid, dims)[None]], 1)}


@pytest.mark.parametrize('grid', [(4, 4), (2, 8), (8, 2), (3, 5), (1, 6), (6, 1)])
def test_a_fixed_table_shows_its_grid(grid):
    assert find_grid(fixed(grid)) == (grid, 'recognized')
    assert find_grid({'pos_embed': fixed(grid)['pos_embed'][:, 1:].half()}) == (grid, 'recognized')
    if 1 not in grid:  # a line in MoCo v3's order is one across it in MAE's
        assert find_grid({'pos_embed': mocov3_position_table(grid, 16)}) == (grid, 'recognized')


def test_a_fixed_table_is_believed_rather_than_what_is_stated_but_not_rather_than_the_user():
    assert find_grid(fixed((2, 8)), stated=(4, 4)) == ((2, 8), 'recognized')
    assert find_grid(fixed((2, 8)), given=(4, 4)) == ((4, 4), 'given')


@pytest.mark.parametrize('extra', [0, 1, 2, 5])
def test_a_learned_table_is_of_the_grid_that_is_given_or_stated_else_a_square_is_assumed(extra):
    table = learned(64 + extra)
    assert find_grid(table) == ((8, 8), 'assumed')
    assert find_grid(table, target=(4, 16)) == ((8, 8), 'assumed')
    assert find_grid(table, stated=(4, 16)) == ((4, 16), 'stated')
    assert find_grid(table, given=(4, 16), stated=(2, 32)) == ((4, 16), 'given')
    assert find_grid(table, stated=(5, 5)) == ((8, 8), 'assumed')


def test_four_positions_before_the_patches_are_those_of_registers_alone():
    registers = {'reg_token': torch.zeros(1, 4, 8)}
    assert find_grid(learned(13) | registers) == ((3, 3), 'assumed')
    assert find_grid(learned(13), given=(3, 3)) == ((3, 3), 'given')
    with pytest.raises(ValueError, match='no square grid'):
        find_grid(learned(13))


def test_where_no_square_fits_that_of_the_backbone_is_assumed_or_the_grid_is_asked_for():
    assert find_grid(learned(33), target=(4, 8)) == ((4, 8), 'assumed')
    for target in (None, (3, 5)):
        with pytest.raises(ValueError, match=r'of no square grid of patches; say of which one by grid=\(rows, colu'):
            find_grid(learned(33), target=target)
    for count in (33, 19, 15):  # 16 patches have 0, 1, 2, 4 or 5 other tokens before them
        with pytest.raises(ValueError, match='not of the given 4 × 4 patches'):
            find_grid(learned(count), given=(4, 4))


def test_a_table_that_is_kept_as_a_grid_or_without_an_axis_for_the_batch_is_of_none_that_is_known():
    for table in (torch.randn(1, 4, 4, 8), torch.randn(16, 8)):
        with pytest.raises(ValueError, match='no square grid'):
            find_grid({'pos_embed': table})
        with pytest.raises(ValueError, match='not of the given'):
            find_grid({'pos_embed': table}, given=(4, 4))


def test_a_table_of_fewer_rows_than_other_tokens_shows_no_grid():
    assert recognize('pos_embed', fixed((1, 1))['pos_embed']) == (1, 1)
    assert recognize('pos_embed', torch.randn(1, 1, 16)) is None


def test_tables_of_relative_positions_are_of_a_grid_too():
    name = 'rel_pos_bias.relative_position_bias_table'
    assert find_grid({name: torch.zeros(num_displacements((3, 3)), 2)}) == ((3, 3), 'assumed')
    wide = {name: torch.zeros(num_displacements((2, 4)), 2)}
    assert find_grid(wide, stated=(2, 4)) == ((2, 4), 'stated')
    with pytest.raises(ValueError, match='no square grid'):
        find_grid(wide)


def test_an_encoder_without_positions_has_no_grid():
    assert find_grid({'cls_token': torch.zeros(1)}) is None
    assert not is_positional('layers.0.attn.relative_position_index')


def test_every_table_of_a_model_goes_to_the_other_grid_and_nothing_else():
    tensors = {'pos_embed': torch.randn(1, 5, 4), 'neck.decoder_pos_embed': torch.randn(1, 5, 2),
               'rel_pos_bias.relative_position_bias_table': torch.randn(num_displacements((2, 2)), 3),
               'norm.weight': torch.randn(4)}
    resized = to_grid(tensors, (2, 2), (4, 3))
    assert resized['pos_embed'].shape == (1, 13, 4)
    assert resized['neck.decoder_pos_embed'].shape == (1, 13, 2)
    assert len(resized['rel_pos_bias.relative_position_bias_table']) == num_displacements((4, 3))
    assert resized['norm.weight'] is tensors['norm.weight']
    with pytest.raises(ValueError, match='is not of 3 × 1 patches'):
        to_grid(tensors, (3, 1), (4, 3))


def test_tables_of_windows_belong_to_no_grid_of_patches():
    window = {'stages.0.blocks.0.attn.w_msa.relative_position_bias_table': torch.randn(169, 3)}  # 7×7: (2·7 − 1)²
    assert find_grid(window) is None
    assert to_grid(window, (4, 4), (8, 8)) == window
    beit = {'rel_pos_bias.relative_position_bias_table': torch.randn(172, 3)}
    assert find_grid(beit).grid == (7, 7)


@pytest.mark.parametrize('shape', [(16, ), (1, 16, 3, 8)])
def test_what_is_no_list_of_patches_has_no_grid(shape):
    with pytest.raises(ValueError, match='is of no square grid'):
        find_grid({'pos_embed': torch.randn(shape)})
