import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mm_graft.checkpoints.resize import (
    grid_of,
    num_displacements,
    resize_positions,
    resize_table,
    sincos_grid,
    square_grid,
    table_grids,
)
from mm_graft.models.position_table import mocov3_position_table, sincos_position_table
from tests.tiny import VIT


def place(rows, columns, dims=4, extra=1):
    """A position table whose rows hold their own place: rightly resized it is the table of the other grid."""
    y, x = torch.meshgrid((torch.arange(rows) + .5) / rows, (torch.arange(columns) + .5) / columns, indexing='ij')
    halves = [part.reshape(1, -1, 1).expand(-1, -1, dims // 2) for part in (y, x)]
    return torch.cat([torch.full((1, extra, dims), 7.), torch.cat(halves, 2)], 1)


@pytest.mark.parametrize('extra', [0, 1, 2])
@pytest.mark.parametrize(('source', 'target'), [((24, 24), (18, 32)), ((4, 16), (8, 32)), ((8, 32), (16, 16))])
def test_a_place_stays_where_it_is(source, target, extra):
    resized = resize_positions(place(*source, extra=extra), source, target)
    expected = place(*target, extra=extra)
    assert resized[:, :extra].equal(expected[:, :extra])
    assert (resized - expected)[:, extra:].abs().max() < 0.04  # at the edge; a wrong grid is off by up to 0.5


def test_positions_of_the_same_grid_are_left_alone():
    table = torch.randn(1, 13, 4)
    assert resize_positions(table, (2, 6), (2, 6)) is table
    relative = torch.randn(num_displacements((2, 6)), 3)
    assert resize_table(relative, (2, 6), (2, 6)) is relative


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_tables_keep_their_format(dtype):
    assert resize_positions(place(2, 2).to(dtype), (2, 2), (3, 4)).dtype == dtype
    assert resize_table(torch.ones(num_displacements((2, 2)), 1, dtype=dtype), (2, 2), (3, 4)).dtype == dtype


def test_positions_are_interpolated_cubically_and_displacements_linearly_as_the_authors_do():
    table = torch.zeros(1, 25, 1)
    table[0, 12] = 1
    assert resize_positions(table, (5, 5), (10, 10)).min() < -0.01  # the dip of a cubic beside a peak
    # two displacements each way, three at the other grid, for each head: (i + ½) · 3 / 5 − ½, held at the ends
    relative = torch.tensor([[0.0, 9], [1, 6], [2, 3], [7, 7], [7, 7], [7, 7]])
    found = resize_table(relative, (1, 2), (1, 3))
    torch.testing.assert_close(found[:5], torch.tensor([[0, 9], [0.4, 7.8], [1, 6], [1.6, 4.2], [2, 3]]))
    torch.testing.assert_close(resize_table(relative, (2, 1), (3, 1)), found)


def test_grids_of_equal_counts_are_other_grids():
    table = place(4, 4)
    assert not resize_positions(table, (4, 4), (2, 8)).equal(table)


def test_positions_of_another_grid_than_is_said_are_refused():
    with pytest.raises(ValueError, match='of 12 tokens is not of 3 × 3 patches'):
        resize_positions(torch.zeros(1, 12, 4), (3, 3), (4, 4))
    with pytest.raises(ValueError, match='of 28 rows is not of 2 × 2 patches'):
        resize_table(torch.zeros(28, 2), (2, 2), (3, 3))


def test_the_displacements_of_the_class_token_are_not_interpolated_and_zero_stays_in_the_middle():
    table = torch.zeros(num_displacements((3, 3)), 1)
    table[-3:, 0] = torch.tensor([1., 2., 3.])
    table[12] = 5  # no displacement
    resized = resize_table(table, (3, 3), (5, 4))
    assert resized[-3:].equal(table[-3:])
    patches = resized[:-3, 0].reshape(9, 7)
    assert patches.argmax() == 4 * 7 + 3
    torch.testing.assert_close(patches, patches.flip(0, 1))


def test_the_grid_of_a_backbone():
    assert grid_of(MODELS.build(dict(type='VisionTransformer', **VIT | dict(img_size=(16, 32))))) == (2, 4)
    assert grid_of(MODELS.build(dict(type='mm_graft.TimmViT', model_name='vit_tiny_patch16_224', depth=1,
                                     img_size=(32, 64)))) == (2, 4)
    assert grid_of(nn.Linear(1, 1)) is None
    owner = nn.Linear(1, 1)
    owner.grid_size = (2, 4, 4)  # frames, rows and columns
    owner.patch_embed = nn.Linear(1, 1)
    assert grid_of(owner) is None
    owner.patch_embed.patches_resolution = [4, 6]
    assert grid_of(owner) == (4, 6)
    owner.grid_size = (3, 3)  # what an encoder says of itself comes before what a part says
    assert grid_of(owner) == (3, 3)


def test_tables_of_windows_say_their_own_grid():
    model = nn.Module()
    model.window, model.rows, model.plain = nn.Module(), nn.Module(), nn.Module()
    for part in (model.window, model.rows):
        part.relative_position_bias_table = nn.Parameter(torch.zeros(9, 1))
    model.window.grid = model.plain.grid = [2, 2]
    assert table_grids(model) == {'window.relative_position_bias_table': (2, 2)}


def test_squares():
    assert [square_grid(count) for count in (0, 1, 16, 17, -4)] == [None, (1, 1), (4, 4), None, None]


@pytest.mark.parametrize('dims', [4, 8, 12, 20])
def test_a_table_of_sines_shows_its_grid_in_either_order_and_up_to_rounding(dims):
    for table in (sincos_position_table(2, 3, dims), mocov3_position_table((2, 3), dims)[0, 1:]):
        assert sincos_grid(table) == sincos_grid(table + 1e-3) == (2, 3)
        assert sincos_grid(table + 4e-3) is None
        assert sincos_grid(table[:0]) is None


def test_a_learned_table_has_no_grid_of_its_own():
    assert sincos_grid(torch.randn(16, 8)) is None
    assert sincos_grid(torch.zeros(16, 8)) is None
    assert sincos_grid(torch.zeros(16, 6)) is None
