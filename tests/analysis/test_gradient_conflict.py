import json

import numpy as np
import pytest
import torch
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


def test_the_line_goes_through_the_medians_and_ignores_outliers_and_gaps():
    cosines = np.array([[0.5, 0.4, np.nan, 0.2], [0.5, 0.4, np.nan, 0.2], [-9, 0.4, np.nan, 0.2]])
    line = median_line(cosines)
    assert line.slope == pytest.approx(-0.1)
    assert line.intercept == pytest.approx(0.6)
    with pytest.raises(ValueError, match='1 blocks'):
        median_line(cosines[:, 2:])


def test_the_summary_is_json_with_quartiles_and_negative_shares():
    summary = conflict_summary(np.array([[-1, np.nan, 0.5], [0, np.nan, 0.5], [1, np.nan, 0.5]]))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary['quartiles'][0] == [-0.5, 0, 0.5]
    assert summary['quartiles'][1] is None
    assert summary['negative'] == [pytest.approx(1 / 3), None, 0]
    assert summary['cosine'][0][1] is None


def test_each_model_has_a_box_per_block_and_a_line():
    random = np.random.default_rng(0)
    axes = draw_conflict({'a': random.random((5, 4)), 'b': random.random((5, 4))}).axes[0]
    assert len(axes.patches) == 8
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['a', 'b']
    assert axes.get_xlabel() == 'block'
