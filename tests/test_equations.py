import pytest
import torch

from mm_graft.equations import at_least_float32, evenly_spaced, half_cosine, off_diagonal_energy, patchify, unpatchify


def test_half_a_cosine_falls_from_one_to_zero():
    assert [half_cosine(step, 8) for step in (0, 4, 8)] == pytest.approx([1, 0.5, 0])
    assert half_cosine(2, 8) == pytest.approx((1 + 2**-0.5) / 2)
    assert half_cosine(1, 3) == pytest.approx(0.75)


@pytest.mark.parametrize(('total', 'count', 'indices'), [
    (10, 4, [0, 3, 6, 9]), (3, 9, [0, 1, 2]), (1, 8, [0]), (14, 8, [0, 2, 4, 6, 7, 9, 11, 13])])
def test_indices_are_spread_evenly_with_both_ends(total, count, indices):
    assert evenly_spaced(total, count).tolist() == indices


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single(dtype):
    assert at_least_float32(torch.ones(2, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_better_than_half_precision_stays_itself(dtype):
    tensor = torch.ones(2, dtype=dtype)
    assert at_least_float32(tensor) is tensor


def test_only_what_lies_off_the_diagonal_counts_and_the_width_does_not_divide():
    x = torch.tensor([[1.0, 2], [3, 1], [0, 2]])
    assert off_diagonal_energy(x).item() == pytest.approx(2 * (5 / 2)**2)


def test_the_energy_by_hand_of_three_dimensions():
    # XᵀX/2 has 1/2, 1 and 3/2 above the diagonal, and as much below
    x = torch.tensor([[1.0, 1, 1], [0, 0, 0], [0, 0, 1]])
    gram = x.T @ x / 2
    expected = 2 * (gram[0, 1]**2 + gram[0, 2]**2 + gram[1, 2]**2)
    assert off_diagonal_energy(x).item() == pytest.approx(expected.item()) == pytest.approx(1.5)


def test_a_patch_lists_rows_then_columns_then_channels():
    images = torch.arange(5 * 3 * 4 * 6.).reshape(5, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (5, 6, 12)
    second_of_second_row = images[1, :, 2:4, 2:4]  # patch (1, 1) of a 2×3 grid
    torch.testing.assert_close(patches[1, 4], second_of_second_row.permute(1, 2, 0).flatten())


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_unpatchify_undoes_patchify(channels):
    images = torch.randn(5, channels, 4, 6)
    assert torch.equal(unpatchify(patchify(images, 2), (2, 3), channels), images)
