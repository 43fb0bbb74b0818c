import math
import re

import numpy as np
import pytest
import torch

from mm_graft.models.position_table import mocov3_position_table, sincos_position_table


def test_the_table_is_maes_and_not_mocov3s(golden):
    stored = np.load(golden / 'mae_pos_embed.npz')
    name = next(name for name in stored.files if name.startswith('mae_'))  # mae_4x4_16: rows, columns, channels
    rows, columns, channels = map(int, re.findall(r'\d+', name))
    table = sincos_position_table(rows, columns, channels).numpy()
    np.testing.assert_allclose(table, stored[name][1:], atol=1e-6)
    assert np.abs(table - stored[name.replace('mae', 'mocov3')][1:]).max() > 1


def test_the_first_half_of_a_row_encodes_the_column():
    table = sincos_position_table(2, 3, 4)  # ω = 1 alone
    at_row_1_column_2 = table[1 * 3 + 2]
    expected = torch.tensor([math.sin(2), math.cos(2), math.sin(1), math.cos(1)])
    torch.testing.assert_close(at_row_1_column_2, expected)


def test_far_places_are_computed_in_double_precision():
    omega = 10000.0**(-np.arange(16) / 16)
    angles = np.arange(2000)[:, None] * omega
    np.testing.assert_allclose(sincos_position_table(1, 2000, 64)[:, :32], np.hstack([np.sin(angles), np.cos(angles)]),
                               rtol=0, atol=1e-7)


def test_a_width_that_cannot_hold_two_sines_and_two_cosines_is_refused():
    with pytest.raises(ValueError, match='dims=6 must be a multiple of 4'):
        sincos_position_table(2, 2, 6)


def test_mocov3s_table_is_the_authors_on_a_square_grid(golden):
    stored = np.load(golden / 'mae_pos_embed.npz')
    name = next(name for name in stored.files if name.startswith('mocov3_'))
    rows, columns, channels = map(int, re.findall(r'\d+', name.removeprefix('mocov3_')))
    np.testing.assert_allclose(mocov3_position_table((rows, columns), channels)[0], stored[name], atol=1e-6)


def test_mocov3s_table_places_the_patches_of_a_wide_image_row_by_row():
    table = mocov3_position_table((2, 3), 4)  # ω = 1 alone
    assert not table[0, 0].any()  # the class token
    at_row_1_column_2 = table[0, 1 + 1 * 3 + 2]
    torch.testing.assert_close(at_row_1_column_2, torch.tensor([math.sin(1), math.cos(1), math.sin(2), math.cos(2)]))


@pytest.mark.parametrize('grid', [(18, 32), (32, 18), (8, 32), (1, 9)])
def test_the_two_layouts_differ_by_their_halves_alone(grid):
    ours = mocov3_position_table(grid, 48)[0, 1:]
    swapped = torch.cat([ours[:, 24:], ours[:, :24]], dim=1)
    torch.testing.assert_close(swapped, sincos_position_table(*grid, 48), atol=1e-5, rtol=0)
