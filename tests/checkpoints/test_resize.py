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
)
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


def test_squares():
    assert [square_grid(count) for count in (0, 1, 16, 17, -4)] == [None, (1, 1), (4, 4), None, None]


def test_a_learned_table_has_no_grid_of_its_own():
    assert sincos_grid(torch.randn(16, 8)) is None
    assert sincos_grid(torch.zeros(16, 8)) is None
    assert sincos_grid(torch.zeros(16, 6)) is None
