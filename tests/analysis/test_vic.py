import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.analysis.vic import block_means, draw_vic, vic, vic_by_block
from tests.tiny import ARCH, VIT


def test_terms_of_two_images_are_those_by_hand():
    # centered rows are ±(1, 0) scaled to length 1 for x, and ±(0, 1) for y
    x, y = torch.tensor([[3.0, 4], [1, 4]]).double(), torch.tensor([[0.0, 2], [0, 1]]).double()
    found = vic(x, y)
    assert found.norm.item() == pytest.approx((5 + 17**0.5 + 2 + 1) / 4)
    assert found.variance.item() == pytest.approx(((2 + 1e-4)**0.5 + 0.01) / 2)
    assert found.covariance.item() == pytest.approx(0)
    unit = [(0.6, 0.8 - 1), (1 / 17**0.5, 4 / 17**0.5 - 1)]
    assert found.invariance.item() == pytest.approx(sum(a * a + b * b for a, b in unit) / 4)


def test_the_covariance_is_the_sum_of_squares_beside_the_diagonal_and_the_mean_of_both_views():
    # centered rows are ±(1, 1) and ±(1, 0): the covariance of the first is 2 · ½ everywhere
    x, y = torch.tensor([[2.0, 3], [0, 1]]).double(), torch.tensor([[4.0, 7], [2, 7]]).double()
    assert vic(x, x).covariance.item() == pytest.approx(2)
    assert vic(x, y).covariance.item() == pytest.approx(1)
    three = torch.tensor([[1.0, 1], [1, 1], [-2, -2]]).double()  # divided by N - 1 = 2, not by 3
    assert vic(three, three).covariance.item() == pytest.approx(2 * (3 / 2 / 2)**2)


def test_equal_views_are_invariant_and_length_matters_to_the_norm_only():
    x, y = torch.randn(2, 6, 5).double()
    assert vic(x, x).invariance == 0
    short, long = vic(x, y), vic(3 * x, 3 * y)
    assert long.norm.item() == pytest.approx(3 * short.norm.item())
    for name in ('invariance', 'variance', 'covariance'):
        assert getattr(long, name).item() == pytest.approx(getattr(short, name).item())


def test_single_images_and_unlike_views_are_refused():
    for x, y in ((torch.ones(1, 3), torch.ones(1, 3)), (torch.ones(2, 3), torch.ones(3, 3))):
        with pytest.raises(ValueError, match='at least two images'):
            vic(x, y)


def test_block_means_are_taken_before_the_final_norm_over_all_tokens():
    encoder = MODELS.build(dict(type='mm_graft.GraftViT', out_type='raw', **VIT)).eval()
    images = torch.randn(2, 3, 32, 32)
    seen = []
    handle = encoder.ln1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    means = block_means(encoder, encoder, images)
    handle.remove()
    assert means.shape == (4, 2, 16)
    assert not means.requires_grad
    torch.testing.assert_close(means[-1], seen[0].mean(1))
    assert not any(block._forward_hooks for block in encoder.layers)


def test_all_images_count_at_once_however_they_are_batched():
    encoder = MODELS.build(dict(type='mm_graft.GraftViT', **VIT)).eval()
    first, second = torch.randn(2, 6, 3, 32, 32)
    whole = vic_by_block(encoder, encoder, [(first, second)])
    parts = vic_by_block(encoder, encoder, zip(first.split(4), second.split(4)))
    more = vic_by_block(encoder, encoder, [(first, second, first)])  # the first two views count
    torch.testing.assert_close(more, whole)
    for one, other in zip(whole, parts):
        assert one.shape == (ARCH['num_layers'], )
        torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match='no images'):
        vic_by_block(encoder, encoder, [])


def test_there_is_a_panel_per_term():
    names = ('norm', 'invariance', 'variance', 'covariance')
    terms = {label: {name: np.arange(2) + 10 * index + start for index, name in enumerate(names)}
             for start, label in enumerate('ab')}
    figure = draw_vic(terms)
    assert [axes.get_title() for axes in figure.axes] == ['variance', 'covariance', 'invariance', 'norm']
    for axes in figure.axes:
        assert axes.get_xlabel() == 'block'
        for line, label in zip(axes.lines, 'ab', strict=True):
            assert line.get_label() == label
            assert list(line.get_xdata()) == [1, 2]
            assert list(line.get_ydata()) == list(terms[label][axes.get_title()])
        assert all(tick == int(tick) for tick in axes.get_xticks())  # there is no block 1.5
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ['a', 'b']
