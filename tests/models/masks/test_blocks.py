import pytest
import torch

from mm_graft.models.masks.blocks import BlockMask, _draw_rectangles, block_mask


@pytest.mark.parametrize('ratio', [0.4, 0.6, 0.75, 0.9])
def test_masks_come_close_to_the_ratio_and_never_exceed_it(ratio):
    hidden = BlockMask(ratio=ratio)(200).sum(1)
    assert hidden.max() <= int(196 * ratio)
    assert hidden.double().mean() > 0.9 * int(196 * ratio)


def test_hidden_patches_are_in_blocks():
    mask = BlockMask(ratio=0.4)(100).view(100, 14, 14)
    neighbors = (mask[:, 1:] & mask[:, :-1]).sum() / mask.sum()
    random = torch.rand(100, 14, 14) < 0.4
    assert neighbors > 1.5 * (random[:, 1:] & random[:, :-1]).sum() / random.sum()


@pytest.mark.parametrize(('grid', 'fits'), [((4, 16), False), ((16, 4), False), ((5, 16), True), ((16, 5), True)])
def test_a_rectangle_as_tall_or_wide_as_the_grid_is_refused_as_in_beit(grid, fits):
    middle = torch.tensor([[0.0, 0.5, 0.0, 0.0]])  # the smallest area, square: 4×4
    rectangle, found = _draw_rectangles(torch.tensor([40]), middle, grid, min_patches=16, min_aspect=0.3)
    assert found.tolist() == [fits]
    assert rectangle.sum() == 16


def test_aspect_is_height_over_width():
    tall = torch.tensor([[0.0, 1.0, 0.0, 0.0]])  # exp(log(1 / 0.25)) = 4: 8 rows, 2 columns
    rectangle, _ = _draw_rectangles(torch.tensor([40]), tall, (14, 14), min_patches=16, min_aspect=0.25)
    assert rectangle[0].any(1).sum() == 8
    assert rectangle[0].any(0).sum() == 2


def test_the_smallest_rectangle_matters_and_so_do_tries_and_aspect():
    def draw(**settings):
        return block_mask(50, (14, 14), 0.5, generator=torch.Generator().manual_seed(0), **settings)
    first = draw()
    assert first.equal(draw())
    for change in ({'min_patches': 4}, {'min_aspect': 0.9}, {'tries': 2}):
        assert not first.equal(draw(**change))


def test_bad_settings_are_refused():
    for settings in ({'ratio': 0}, {'ratio': 1.0}, {'patch_size': 15}, {'ratio': 0.05}, {'min_patches': 0}):
        with pytest.raises(ValueError, match=r'choose'):
            BlockMask(**settings)
