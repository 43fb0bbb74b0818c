import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.analysis.attention_distance import (
    AttentionDistances,
    attention_distances,
    draw_attention_distance,
    mean_distance,
    patch_distances,
)
from tests.tiny import VIT


def test_distances_are_those_of_the_grid_in_pixels():
    distances = patch_distances((2, 3), 10)
    assert distances.shape == (6, 6)
    torch.testing.assert_close(distances[0], torch.tensor([0, 10, 20, 10, 200**0.5, 500**0.5]).double())


def test_a_head_that_looks_at_itself_is_near_and_one_that_looks_everywhere_is_far():
    distances = patch_distances((2, 2), 16)
    weights = torch.stack([torch.eye(4), torch.full((4, 4), 0.25)])[None].double()
    torch.testing.assert_close(mean_distance(weights, distances), torch.tensor([[0, (32 + 512**0.5) / 4]]).double())


def test_the_class_tokens_row_and_column_are_dropped_and_the_rest_not_scaled_up():
    distances = patch_distances((2, 2), 16)
    weights = torch.full((1, 1, 5, 5), 0.2).double()
    expected = mean_distance(weights, distances)
    assert expected.item() == pytest.approx(0.2 * (32 + 512**0.5))
    weights[..., 0, :] = 7
    torch.testing.assert_close(mean_distance(weights, distances), expected)
    with pytest.raises(ValueError, match='4 patches'):
        mean_distance(weights[..., :3, :3], distances)


def test_batches_are_joined_and_every_head_and_image_is_kept():
    encoder = MODELS.build(dict(type='mm_graft.GraftViT', **VIT)).eval()
    images = torch.randn(5, 3, 32, 32)
    found = attention_distances(encoder, images.split(2), (4, 4), 8)
    assert (found.per_block.shape, found.per_head.shape, found.distance.shape) == ((4, ), (4, 2), (4, 5, 2))
    torch.testing.assert_close(found.distance, attention_distances(encoder, [images], (4, 4), 8).distance)
    torch.testing.assert_close(attention_distances(encoder, [images], (4, 4), 16).distance, 2 * found.distance)
    assert (found.mass_on_extra > 0).all()
    torch.testing.assert_close(found.mass_on_extra, attention_distances(encoder, [images], (4, 4), 8).mass_on_extra)
    assert not found.distance.requires_grad
    with pytest.raises(ValueError, match='no images'):
        attention_distances(encoder, [], (4, 4), 8)


def test_the_mass_that_is_left_out_is_what_patches_put_on_extra_tokens(monkeypatch):
    weights = torch.zeros(1, 1, 6, 6)
    weights[..., :2, :2] = 9  # extra tokens on themselves
    weights[..., :2, 2:] = 7
    weights[..., 2:, 0], weights[..., 2:, 1] = 0.1, torch.tensor([0.0, 0.1, 0.2, 0.3])
    monkeypatch.setattr('mm_graft.analysis.attention_distance.attention_calls', lambda encode, images: [(weights, )])
    monkeypatch.setattr('mm_graft.analysis.attention_distance.weights_of_call', lambda weights: weights)
    found = attention_distances(None, [torch.zeros(1)], (2, 2), 8)
    assert found.mass_on_extra.item() == pytest.approx(0.1 + 0.15)


def test_a_block_or_head_is_the_mean_over_what_is_left():
    distance = torch.tensor([[[1.0, 2], [3, 4]], [[5, 6], [9, 8]]])  # (blocks, images, heads)
    found = AttentionDistances(distance, torch.zeros_like(distance))
    assert found.per_block.tolist() == [2.5, 7]
    assert found.per_head.tolist() == [[2, 3], [7, 7]]


def test_every_model_is_a_line_of_means_and_dots_of_its_heads_over_the_blocks_from_distance_zero():
    found = {'a': np.array([[1.0, 3], [2, 6]]), 'b': np.array([[5.0, 5, 8], [7, 7, 7]])}
    axes = draw_attention_distance(found).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['a', 'b']
    lines = {line.get_label(): line for line in axes.lines}
    for label, means in (('a', [2, 4]), ('b', [6, 7])):
        assert lines[label].get_xydata().tolist() == [[1, means[0]], [2, means[1]]]
        dots = [line for line in axes.lines if line.get_linestyle() == 'None'
                and line.get_color() == lines[label].get_color()]
        assert np.stack([line.get_xydata() for line in dots], 1)[..., 1].tolist() == found[label].tolist()
        assert all(line.get_xdata().tolist() == [1, 2] for line in dots)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('block', 'attention distance (pixels)')
    assert axes.get_ylim()[0] == 0
