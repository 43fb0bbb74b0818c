import numpy as np
from matplotlib.collections import LineCollection

from mm_graft.analysis.reconstruction import Reconstruction, Scale
from mm_graft.analysis.reconstruction_figure import GAMMA, HIDDEN_GRAY, draw, visible_part

MASK = np.array([[True, False], [False, True]])


def example(histogram: bool = True) -> Reconstruction:
    shape = (2, 2, 3) if histogram else (8, 8, 3)
    scale = Scale(np.full(shape, 0.25), np.full(shape, 0.75), MASK.astype(float), histogram)
    return Reconstruction(np.full((8, 8, 3), 0.5), MASK, [scale])


def test_hidden_patches_are_grey_and_visible_ones_as_they_are():
    shown = visible_part(example())
    assert (shown[:4, :4] == HIDDEN_GRAY).all()
    assert (shown[:4, 4:] == 0.5).all()


def test_an_image_has_two_rows_and_a_column_a_scale():
    figure = draw([example(), example()])
    assert [axes.get_title() for axes in figure.axes[:4]] == ['image', 'predicted, 2×2', 'visible, 50%', 'target, 2×2']
    assert len(figure.axes) == 8


def test_histograms_are_faint_where_nothing_was_hidden():
    strokes = [axes for axes in draw([example()]).axes if any(isinstance(c, LineCollection) for c in axes.collections)]
    predicted, target = (axes.collections[0].get_colors()[:, 3] for axes in strokes)
    np.testing.assert_allclose(sorted(set(predicted.round(6))), np.array([0.3, 1]) * (1 / 3)**GAMMA, atol=1e-6)
    assert set(target) == {1.0}


def test_pixels_are_predicted_only_where_they_were_hidden():
    shown = draw([example(histogram=False)]).axes[1].images[0].get_array()
    assert (shown[:4, :4] == 0.25).all()
    assert (shown[:4, 4:] == 0.75).all()
