import pytest
import torch

from mm_graft.models.masks.random_cells import RandomCellMask, image_grid, random_cell_mask
from tests.defaults import defaults


@pytest.mark.parametrize(('cell_size', 'hidden'), [(32, 148), (16, 147)])
def test_three_quarters_of_224_pixels_hide_whole_cells(cell_size, hidden):
    generator = RandomCellMask(cell_size=cell_size)
    mask = generator(8)
    assert mask.dtype == torch.bool
    assert mask.shape == (8, 196)
    assert (mask.sum(1) == hidden).all()
    side = cell_size // 16
    cells = mask.view(8, 14 // side, side, 14 // side, side)
    assert (cells == cells[:, :, :1, :, :1]).all()


def test_images_and_draws_differ_and_a_generator_repeats_them():
    masks = RandomCellMask()
    first, second = masks(2), masks(2)
    assert not first[0].equal(first[1])
    assert not first.equal(second)
    again = [masks(2, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert again[0].equal(again[1])


def test_images_need_not_be_square():
    masks = RandomCellMask(img_size=(32, 64), patch_size=8, cell_size=16, ratio=0.5)
    assert masks.grid == (4, 8)
    assert masks(3).sum(1).tolist() == [16] * 3


def test_every_cell_is_hidden_equally_often():
    frequency = random_cell_mask(4000, (3, 3), 1, 0.5).double().mean(0)
    assert (frequency - 5 / 9).abs().max() < 0.04


@pytest.mark.parametrize('ratio', [0, 1, -0.1, 1.5])
def test_a_ratio_outside_0_and_1_is_refused(ratio):
    with pytest.raises(ValueError, match=r'\(0, 1\)'):
        RandomCellMask(ratio=ratio)


@pytest.mark.parametrize('sizes', [{'cell_size': 48}, {'patch_size': 15}, {'patch_size': 14, 'cell_size': 30}])
def test_cells_that_do_not_divide_the_image_are_refused(sizes):
    with pytest.raises(ValueError, match='divi'):
        RandomCellMask(**sizes)


def test_cells_must_hold_whole_patches():
    with pytest.raises(ValueError, match='whole patches'):
        RandomCellMask(img_size=48, patch_size=16, cell_size=24)
    assert image_grid(48, 16) == (3, 3)


def test_a_grid_has_rows_first_and_both_sides_and_the_patch_are_checked():
    assert image_grid((32, 64), 16) == (2, 4)
    assert image_grid((2, 3), 1) == (2, 3)
    for size, patch in [((30, 32), 16), ((32, 30), 16), ((32, 32), 0), ((32, 32), -16)]:
        with pytest.raises(ValueError, match='choose a divisor of both sides'):
            image_grid(size, patch)


def test_by_default_three_quarters_of_cells_of_32_pixels_are_hidden():
    assert defaults(RandomCellMask) == {'img_size': 224, 'patch_size': 16, 'cell_size': 32, 'ratio': 0.75}


def test_cells_of_a_wide_image_are_whole_squares():
    mask = random_cell_mask(5, (2, 3), 2, 0.5).view(5, 2, 2, 3, 2)  # rows of cells, in a cell, columns of cells, in one
    assert (mask == mask[:, :, :1, :, :1]).all()
    assert mask[:, :, 0, :, 0].flatten(1).sum(1).tolist() == [3] * 5
