import math

import pytest
import torch

from mm_graft.models.masks.blocks import BlockMask, SpreadBlockMask, _draw_rectangles, block_mask, spread_ratios
from tests.defaults import defaults


def hidden_by_loop(draws, grid, target, min_patches, min_aspect):
    """BEiT's algorithm 1 for one image, patch by patch."""
    hidden, refusals = set(), 0
    for area, aspect, top, left in draws.tolist():
        if refusals == 10:
            break
        area = min_patches + area * (target - len(hidden) - min_patches)
        aspect = min_aspect**(1 - 2 * aspect)
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        refusals += 1
        if height < grid[0] and width < grid[1]:
            top, left = int(top * (grid[0] - height + 1)), int(left * (grid[1] - width + 1))
            new = {(row, column) for row in range(top, top + height) for column in range(left, left + width)} - hidden
            if 0 < len(new) <= target - len(hidden):
                hidden, refusals = hidden | new, 0
    return hidden


@pytest.mark.parametrize(('grid', 'settings'), [
    ((14, 14), {}), ((6, 9), {'min_patches': 4, 'tries': 40}), ((9, 5), {'min_patches': 1, 'min_aspect': 0.1})])
def test_masks_are_those_of_a_loop_over_rectangles_and_patches(grid, settings):
    masks = block_mask(150, grid, 0.75, generator=torch.Generator().manual_seed(1), **settings)
    uniform = torch.rand(settings.get('tries', 64), 150, 4, generator=torch.Generator().manual_seed(1))
    for mask, draws in zip(masks, uniform.transpose(0, 1)):
        hidden = hidden_by_loop(draws, grid, int(0.75 * grid[0] * grid[1]), settings.get('min_patches', 16),
                                settings.get('min_aspect', 0.3))
        assert set(map(tuple, mask.view(grid).nonzero().tolist())) == hidden


def test_the_module_draws_what_the_function_draws_on_grids_that_are_not_square():
    module = BlockMask(img_size=(64, 160), patch_size=16, ratio=0.5, min_patches=6)
    one, other = (draw(generator=torch.Generator().manual_seed(0)) for draw in (
        lambda **kwargs: module(3, **kwargs), lambda **kwargs: block_mask(3, (4, 10), 0.5, 6, **kwargs)))
    assert one.equal(other)
    assert defaults(BlockMask) == {'img_size': 224, 'patch_size': 16, 'ratio': 0.75, 'min_patches': 16}


def test_the_smallest_rectangle_may_be_as_large_as_what_is_hidden():
    BlockMask(img_size=(32, 160), patch_size=16, ratio=0.53, min_patches=10)  # 10.6 of 20
    with pytest.raises(ValueError, match='but 10 patches are to be hidden'):
        BlockMask(img_size=(32, 160), patch_size=16, ratio=0.53, min_patches=11)
    BlockMask(min_patches=1)
    with pytest.raises(ValueError, match='min_patches=0'):
        BlockMask(min_patches=0)


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


def test_ratios_are_spread_over_the_range_for_a_share_of_the_images_in_random_order():
    ratios = spread_ratios(10, (0.1, 0.5), 0.5)
    hiding = ratios[ratios > 0].sort().values
    assert len(hiding) == 5
    for part, ratio in enumerate(hiding):  # one in each fifth of the range
        assert 0.1 + 0.08 * part <= ratio <= 0.1 + 0.08 * (part + 1)
    orders = [tuple((spread_ratios(10, (0.1, 0.5), 0.5) > 0).tolist()) for _ in range(5)]
    assert len(set(orders)) > 1


def test_spread_masks_hide_what_their_ratio_says_and_nothing_elsewhere():
    generator = SpreadBlockMask(ratio=(0.2, 0.4), share=0.25)
    hidden = generator(200).sum(1)
    assert (hidden > 0).sum() == 50
    assert hidden.max() <= int(0.4 * 196)
    assert hidden[hidden > 0].double().mean() == pytest.approx(0.3 * 196, rel=0.1)
    first, second = (SpreadBlockMask(img_size=64, patch_size=8)(
        6, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (6, 64)


def test_each_image_may_have_a_ratio_of_its_own():
    mask = block_mask(4, (14, 14), torch.tensor([0.0, 0.2, 0.6, 0.0]), min_patches=4)
    hidden = mask.sum(1)
    assert hidden[0] == hidden[3] == 0
    assert 30 < hidden[1] <= 39
    assert 100 < hidden[2] <= 117


def test_a_share_of_one_patch_hides_one_though_it_is_no_binary_fraction():
    hidden = block_mask(64, (5, 5), 1 / 25, min_patches=1).sum(1)  # in float32 1/25 is a little less, and 25 of it 0
    assert hidden.max() == 1


def test_bad_spreads_are_refused():
    for settings, message in (({'ratio': (0.5, 0.1)}, '≤ the second'), ({'share': 0.0}, r'\(0, 1\]'),
                              ({'ratio': (0.0, 0.5)}, 'mask ratio 0.0'), ({'min_patches': 99}, 'smaller rectangle'),
                              ({'min_patches': 0}, 'min_patches=0')):
        with pytest.raises(ValueError, match=message):
            SpreadBlockMask(**settings)
    with pytest.raises(ValueError, match='at most 12 patches are to be hidden'):
        SpreadBlockMask(img_size=(64, 96), ratio=(0.1, 0.53), min_patches=13)  # 12.72 of 24
    SpreadBlockMask(img_size=(64, 96), ratio=(0.1, 0.53), min_patches=12, share=1)
    SpreadBlockMask(ratio=(0.3, 0.3))
    assert defaults(SpreadBlockMask) == {'img_size': 224, 'patch_size': 16, 'ratio': (0.1, 0.5), 'share': 0.5,
                                         'min_patches': 4}


def test_the_constants_of_blocks_are_beits():
    usual = defaults(block_mask)
    assert (usual['min_patches'], usual['min_aspect'], usual['tries']) == (16, 0.3, 64)
