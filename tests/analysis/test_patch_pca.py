import numpy as np

from mm_graft.analysis.patch_pca import draw_patch_pca, principal_colors


def two_groups():
    """Two images of four patches; the first axis tells the upper two patches from the lower two, the second hardly."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(2, 4, 6)) * 0.01
    tokens[:, :2, 0] += 5
    return tokens


def test_the_first_color_is_what_differs_most_and_means_the_same_in_every_image():
    colors = principal_colors(two_groups())
    assert colors.shape == (2, 4, 3)
    assert colors[:, :2, 0].min() > 0.95
    assert colors[:, 2:, 0].max() < 0.05


def test_neither_shift_nor_rotation_of_the_features_changes_more_than_a_sign():
    tokens = two_groups()
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    first, second = principal_colors(tokens)[..., 0], principal_colors((tokens + 3) @ rotation)[..., 0]
    assert min(abs(first - second).max(), abs(first - (1 - second)).max()) < 0.02


def test_a_color_runs_from_the_second_to_the_98th_percentile_and_grows_with_the_largest_weight():
    tokens = np.zeros((1, 101, 3))
    tokens[0, :, 0], tokens[0, :, 2] = np.arange(101), -3 * np.arange(101)
    tokens[0, :, 1] = 500  # what all have in common says nothing
    colors = principal_colors(tokens)[0, :, 0]
    np.testing.assert_allclose(colors, 1 - ((np.arange(101) - 2) / 96).clip(0, 1), atol=1e-12)
    np.testing.assert_allclose(principal_colors(-tokens)[0, :, 0], 1 - colors, atol=1e-12)


def test_the_three_colors_are_the_three_directions_that_differ_most_at_any_scale():
    tokens = np.random.default_rng(0).normal(size=(2, 200, 5)) * [0.1, 9, 1, 0.1, 3]
    colors = principal_colors(tokens)
    for color, axis in enumerate((1, 4, 2)):
        assert abs(np.corrcoef(colors[..., color].flat, tokens[..., axis].flat)[0, 1]) > 0.9
    np.testing.assert_allclose(principal_colors(tokens / 1000), colors, atol=1e-9)


def test_constant_and_narrow_tokens_have_colors_too():
    assert np.isfinite(principal_colors(np.ones((1, 4, 6)))).all()
    assert principal_colors(np.random.default_rng(0).normal(size=(1, 9, 2))).shape == (1, 9, 3)


def test_patches_are_laid_out_row_by_row():
    tokens = np.zeros((1, 6, 4))
    tokens[0, 4, 0] = 1.0  # row 1, column 1 of a grid of 2×3
    figure = draw_patch_pca(np.zeros((1, 8, 12, 3)), {'after': tokens}, (2, 3))
    drawn = figure.axes[1].get_images()[0].get_array()
    assert drawn.shape == (2, 3, 3)
    assert np.unravel_index(drawn[..., 0].argmax(), (2, 3)) == (1, 1)
    assert figure.axes[1].get_ylabel() == 'after'
