import pytest
import torch

from mm_graft.checkpoints.resize import fit_positions, fit_table, num_displacements, resize_model


def test_positions_of_the_same_grid_are_left_alone():
    table = torch.randn(1, 10, 4)
    assert fit_positions(table, (3, 3)) is table
    wide = torch.randn(1, 13, 4)
    assert fit_positions(wide, (2, 6)) is wide


def test_the_class_tokens_row_stays_and_a_constant_field_stays_constant():
    table = torch.ones(1, 10, 4)
    table[:, 0] = 7
    resized = fit_positions(table, (4, 5))
    assert resized.shape == (1, 21, 4)
    assert (resized[:, 0] == 7).all()
    torch.testing.assert_close(resized[:, 1:], torch.ones(1, 20, 4))


def test_rows_stay_rows():
    rows = torch.arange(3.0).repeat_interleave(3).view(1, 9, 1)
    resized = fit_positions(rows, (6, 3), 'bilinear').view(6, 3)
    assert (resized[:, :1] == resized).all()
    assert (resized[1:, 0] >= resized[:-1, 0]).all()


def test_positions_of_no_square_grid_are_refused():
    with pytest.raises(ValueError, match='no square grid'):
        fit_positions(torch.zeros(1, 13, 4), (3, 3))


def test_every_table_of_a_model_is_resized_and_nothing_else():
    tensors = {'pos_embed': torch.randn(1, 5, 4), 'decoder_pos_embed': torch.randn(1, 5, 2),
               'rel_pos_bias.relative_position_bias_table': torch.randn(num_displacements((2, 2)), 3),
               'norm.weight': torch.randn(4)}
    resized = resize_model(tensors, (4, 4))
    assert resized['pos_embed'].shape == (1, 17, 4)
    assert resized['decoder_pos_embed'].shape == (1, 17, 2)
    assert len(resized['rel_pos_bias.relative_position_bias_table']) == num_displacements((4, 4))
    assert resized['norm.weight'] is tensors['norm.weight']


def test_the_displacements_of_the_class_token_are_not_interpolated():
    table = torch.randn(num_displacements((3, 3)), 2)
    assert fit_table(table, (5, 4))[-3:].equal(table[-3:])
