import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from mmengine.registry import MODELS

from mm_graft.analysis.gradient_conflict import conflict_over_batches, conflict_summary, draw_conflict, median_line
from mm_graft.gradients import gradient_conflict
from tests.tiny import VIT


def test_every_batch_gives_a_row_and_the_model_stays_as_it_is():
    encoder = MODELS.build(dict(type='VisionTransformer', **VIT))
    batches = [torch.randn(2, 3, 32, 32) for _ in range(3)]

    def measure(images):
        return gradient_conflict(encoder, lambda: encoder(images)[0][:, 0].sum(),
                                 lambda: encoder(images)[0][:, 1].square().sum())

    cosines = conflict_over_batches(encoder, measure, batches)
    assert cosines.shape == (3, 4)
    assert np.abs(cosines).max() <= 1 + 1e-6
    assert len(np.unique(cosines[:, 0])) == 3
    assert all(parameter.grad is None for parameter in encoder.parameters())
    with pytest.raises(ValueError, match='no batches'):
        conflict_over_batches(encoder, measure, [])


def test_statistics_that_a_forward_in_training_moves_stay_as_they_are():
    encoder = MODELS.build(dict(type='VisionTransformer', **VIT))
    encoder.norm = torch.nn.BatchNorm1d(16)

    def measure(images):
        tokens = encoder.norm(encoder(images)[0])
        return gradient_conflict(encoder, tokens.square().sum, lambda: encoder(images)[0].square().sum())

    before = encoder.norm.running_mean.clone()
    encoder.train()
    conflict_over_batches(encoder, measure, [torch.randn(2, 3, 32, 32)])
    assert torch.equal(encoder.norm.running_mean, before)


def test_the_line_goes_through_the_medians_and_ignores_outliers_and_gaps():
    cosines = np.array([[0.5, 0.4, np.nan, 0.2], [0.5, 0.4, np.nan, 0.2], [-9, 0.4, np.nan, 0.2]])
    line = median_line(cosines)
    assert line.slope == pytest.approx(-0.1)
    assert line.intercept == pytest.approx(0.6)
    cosines[0, 1:3] = np.nan, 0.3  # a value that is missing leaves the others, one that is there counts
    assert median_line(cosines).slope == pytest.approx(-0.1)
    assert median_line(cosines[:, [0, 2]]) == pytest.approx((-0.2, 0.7))
    cosines[0, 2] = np.nan
    with pytest.raises(ValueError, match='1 blocks'):
        median_line(cosines[:, 2:])


def test_the_summary_is_json_with_quartiles_and_negative_shares():
    summary = conflict_summary(np.array([[-1, np.nan, 0.5], [0, np.nan, 0.5], [1, np.nan, 0.5]], np.float32))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary['quartiles'][0] == [-0.5, 0, 0.5]
    assert summary['quartiles'][1] is None
    assert summary['negative'] == [pytest.approx(1 / 3), None, 0]
    assert summary['cosine'][0] == [-1, None, 0.5]
    assert (summary['slope'], summary['intercept']) == pytest.approx((0.25, -0.25))  # from 0 in block 1 to ½ in block 3


@pytest.mark.parametrize('labels', [['a'], ['a', 'b'], ['a', 'b', 'c']])
def test_each_model_has_a_box_per_block_side_by_side_about_it_and_its_line_of_medians(labels):
    random = np.random.default_rng(0)
    found = {label: random.random((5, 4)) - 0.5 for label in labels}
    axes = draw_conflict(found).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == labels
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('block', 'cosine of the two gradients')
    assert [(text.get_position()[0], text.get_text()) for text in axes.get_xticklabels()] == [
        (1, '1'), (2, '2'), (3, '3'), (4, '4')]
    assert any(list(line.get_ydata()) == [0, 0] for line in axes.lines)  # where nothing disagrees
    boxes = [box.get_path().get_extents() for box in axes.patches]  # of each model, block by block
    centers = np.reshape([(box.x0 + box.x1) / 2 for box in boxes], (len(labels), 4))
    np.testing.assert_allclose(centers.mean(0), [1, 2, 3, 4])
    assert np.abs(centers - [1, 2, 3, 4]).max() < 0.5  # nearer to their own block than to another
    assert (np.diff(centers, axis=0) > np.reshape([box.width for box in boxes], (len(labels), 4))[1:]).all()
    lines = {line.get_label(): line for line in axes.lines}
    for index, (label, cosines) in enumerate(found.items()):
        quartiles = [[box.y0, box.y1] for box in boxes[4 * index:4 * index + 4]]
        np.testing.assert_allclose(quartiles, np.percentile(cosines, (25, 75), axis=0).T)
        slope, intercept = median_line(cosines)
        np.testing.assert_allclose(lines[label].get_ydata(), slope * np.arange(1, 5) + intercept)
        color = to_rgb(axes.patches[4 * index].get_facecolor())
        assert len(labels) == 1 or color == to_rgb(lines[label].get_color())  # the legend names the line
    assert len({box.get_facecolor() for box in axes.patches}) == len(labels)
