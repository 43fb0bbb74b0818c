import math

import pytest
import torch

from mm_graft.models.targets.hog import HOGTarget, cell_histograms, multi_scale_hog, vote
from tests.defaults import defaults


def slow_hog(image: torch.Tensor, nbins: int, cell: int) -> torch.Tensor:
    """One channel (H, W), pixel by pixel in double precision."""
    height, width = image.shape
    at = lambda y, x: float(image[abs(y) if y < height else 2 * height - 2 - y, abs(x) if x < width else 2 * width - 2 - x])  # noqa: E501, E731
    cells = torch.zeros(height // cell, width // cell, nbins, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            g_x = sum(w * (at(y + d, x - 1) - at(y + d, x + 1)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            g_y = sum(w * (at(y - 1, x + d) - at(y + 1, x + d)) for d, w in ((-1, 1), (0, 2), (1, 1)))
            share = math.floor(math.atan2(g_x, g_y) / math.pi * nbins) % nbins
            cells[y // cell, x // cell, share] += math.hypot(g_x, g_y)
    cells = cells.flatten(0, 1)
    return cells / cells.norm(dim=1, keepdim=True)


def ramp(across: float, down: float, size: int = 32) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing='ij')
    return (across * x + down * y).expand(1, 3, size, size)


def inner_bin(images: torch.Tensor) -> int:
    """Bin of the cell in the middle of the first channel."""
    return int(HOGTarget(cells=(8, ))(images)[0].reshape(4, 4, 27)[1, 1, :9].argmax())


def test_every_pixel_votes_as_in_a_slow_loop():
    image = torch.rand(12, 8, dtype=torch.float64)
    targets = multi_scale_hog(image[None, None], 9, (2, 4))
    for cell, target in zip((2, 4), targets):
        torch.testing.assert_close(target[0], slow_hog(image, 9, cell))


@pytest.mark.parametrize(('across', 'down', 'expected'), [(1, 0, 4), (-1, 0, 4), (0, 1, 0), (0, -1, 0), (1, 1, 2),
                                                          (1, -1, 6)])
def test_a_ramp_falls_into_the_bin_of_its_direction(across, down, expected):
    assert inner_bin(ramp(across, down)) == expected


@pytest.mark.parametrize('nbins', [9, 18, 12])
def test_exact_ties_fall_into_the_upper_bin_in_both_precisions(nbins):
    for dtype in (torch.float32, torch.float64):
        quarter = vote(ramp(1, 0).to(dtype), nbins)[1][0, 0, 5:-5, 5:-5]
        half = vote(ramp(0, 1).to(dtype), nbins)[1][0, 0, 5:-5, 5:-5]
        assert (quarter == nbins // 2).all()
        assert (half == 0).all()


@pytest.mark.parametrize('value', [0.1, -1.7, 0.5, 2.2489])
def test_a_flat_image_has_the_target_zero(value):
    for dtype in (torch.float32, torch.float64):
        assert not HOGTarget()(torch.full((1, 3, 64, 64), value, dtype=dtype))[0].any()


def test_what_is_flat_is_measured_against_the_largest_value_of_its_channel():
    images = torch.zeros(1, 3, 32, 32)
    images[:, :2, :, 20:] = 1e-7  # a faint step
    images[:, 0, 0, 0] = -1
    faint = HOGTarget(cells=(8, ))(images)[0].view(4, 4, 3, 9)[1:, 1:]  # cells that do not see the corner
    assert not faint[:, :, 0].any()
    assert faint[:, 1, 1].norm(dim=-1).tolist() == pytest.approx([1] * 3)


def test_a_histogram_is_the_mean_magnitude_of_a_cell():
    for cell in (4, 8):
        inner = cell_histograms(ramp(1, 0), 9, cell)[0, 0, :, 1:-1, 1:-1]
        torch.testing.assert_close(inner.sum(0), torch.full_like(inner[0], 8.))  # 2·(1 + 2 + 1)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_rounding_of_a_flat_image_is_flat(dtype):
    images = torch.ones(1, 3, 32, 32, dtype=dtype)
    images[..., 10] += torch.finfo(dtype).eps  # one unit in the last place
    assert not HOGTarget(cells=(8, ))(images)[0].any()


def test_one_grey_level_is_no_flat_cell():
    images = torch.full((1, 3, 32, 32), -2.)
    images[..., 10, 10] += 1 / 255
    assert HOGTarget(cells=(32, ))(images)[0].norm(dim=-1).item() == pytest.approx(math.sqrt(3))


def test_cells_are_unit_vectors_per_channel_and_contrast_does_not_matter():
    images = torch.randn(2, 3, 64, 64)
    for target, stronger in zip(HOGTarget()(images), HOGTarget()(images * 7)):
        torch.testing.assert_close(target.unflatten(2, (3, 9)).norm(dim=3), torch.ones(2, target.shape[1], 3))
        torch.testing.assert_close(target, stronger, atol=1e-5, rtol=0)


def test_scales_pooled_from_one_histogram_equal_those_computed_alone():
    images = torch.randn(2, 3, 48, 96)
    together = HOGTarget(cells=(4, 8, 16, 12))(images)
    for cell, target in zip((4, 8, 16, 12), together):
        torch.testing.assert_close(target, HOGTarget(cells=(cell, ))(images)[0], atol=5e-6, rtol=0)


def test_chunks_do_not_change_the_result():
    images = torch.randn(5, 3, 32, 32)
    for ours, theirs in zip(HOGTarget(chunk_size=2)(images), HOGTarget(chunk_size=5)(images)):
        assert torch.equal(ours, theirs)


def test_autocast_and_half_precision_images_do_not_lower_the_precision():
    images = torch.randn(1, 3, 32, 32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        target = HOGTarget()(images)[0]
    assert torch.equal(target, HOGTarget()(images)[0])
    assert HOGTarget()(images.bfloat16())[0].dtype == torch.float32
    assert HOGTarget()(images.double())[0].dtype == torch.float64


def test_unwanted_scales_are_not_computed():
    targets = HOGTarget(cells=(4, 8, 5))(torch.randn(1, 3, 32, 32), scales={1})  # 5 would not fit
    assert targets[0] is None
    assert targets[2] is None
    torch.testing.assert_close(targets[1].shape, torch.Size([1, 16, 27]))
    assert HOGTarget()(torch.randn(1, 3, 32, 32), scales=()) == [None] * 4


def test_the_random_bias_is_frozen_stored_and_another_one_per_scale():
    first, second = HOGTarget(random_bias=True), HOGTarget(random_bias=True)
    images = torch.randn(1, 3, 32, 32)
    assert not list(first.parameters())
    assert first.bias.abs().max() <= 1 / 3
    many = HOGTarget(cells=(4, ) * 200, random_bias=True).bias
    assert many.min() < -0.32
    assert many.max() > 0.32
    assert first.bias.unique().numel() == 8
    assert not torch.equal(first(images)[0], second(images)[0])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images)[3], second(images)[3])


def test_the_bias_shifts_flat_cells_in_its_own_direction():
    target = HOGTarget(cells=(8, ), random_bias=True)
    target.bias[:] = torch.tensor([0.3, 0.])  # g_x alone: 90°
    assert int(target(torch.zeros(1, 3, 8, 8))[0][0, 0, :9].argmax()) == 4


def test_the_number_of_bins_is_the_width_of_a_token():
    target = HOGTarget(nbins=18, cells=(8, ))
    assert target(torch.randn(1, 3, 16, 24))[0].shape == (1, 6, 54)
    assert target.out_channels == [54]


def test_a_cell_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match='cells of 16 pixels do not divide an image of 24×32'):
        HOGTarget(cells=(4, 16))(torch.zeros(1, 3, 24, 32))


@pytest.mark.parametrize('options', [{'nbins': 0}, {'cells': ()}, {'cells': (0, 4)}, {'chunk_size': 0}])
def test_sizes_below_one_are_refused(options):
    with pytest.raises(ValueError, match='must be at least 1'):
        HOGTarget(**options)
    HOGTarget(nbins=1, cells=(1, ), chunk_size=1)


def test_the_cells_are_those_that_were_given_whatever_becomes_of_the_list():
    cells = [4, 8]
    target = HOGTarget(cells=cells)
    cells.clear()
    assert [part.shape[1] for part in target(torch.randn(1, 3, 16, 16))] == [16, 4]


def test_the_papers_histogram_has_nine_bins_at_four_scales():
    assert defaults(HOGTarget) == {'nbins': 9, 'cells': (4, 8, 16, 32), 'random_bias': False, 'chunk_size': 64}
