import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mm_graft.analysis.tsne import draw_points, embed, project


def test_well_separated_classes_stay_apart_and_the_seed_fixes_the_picture():
    random = np.random.default_rng(0)
    centers = 10 * np.eye(3, 8)
    features = np.concatenate([center + 0.1 * random.standard_normal((12, 8)) for center in centers])
    points = embed(features, perplexity=5)
    assert points.shape == (36, 2)
    np.testing.assert_array_equal(points, embed(features, perplexity=5))
    np.testing.assert_allclose(points, embed(7 * features, perplexity=5), rtol=1e-3, atol=1e-3)
    means = points.reshape(3, 12, 2).mean(1)
    spread = np.linalg.norm(points.reshape(3, 12, 2) - means[:, None], axis=-1).max()
    gaps = [np.linalg.norm(means[i] - means[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > spread


def test_a_perplexity_out_of_range_is_refused():
    with pytest.raises(ValueError, match='perplexity=30'):
        embed(np.ones((10, 3)))


def test_collapsed_features_are_one_point():
    np.testing.assert_array_equal(embed(np.full((5, 3), 2.0) * np.arange(1, 6)[:, None], 2), np.zeros((5, 2)))


def test_umap_is_taken_where_it_is_installed_and_tsne_elsewhere(monkeypatch):
    features = np.random.default_rng(0).standard_normal((12, 4))
    monkeypatch.setattr('mm_graft.analysis.tsne.find_spec', lambda name: None)
    name, points = project(features)
    assert name == 't-SNE'
    np.testing.assert_array_equal(points, embed(features, 11 / 3))
    asked = {}

    class Recorder:
        def __init__(self, **settings):
            asked.update(settings)

        def fit_transform(self, given):
            return given[:, :2]

    monkeypatch.setattr('mm_graft.analysis.tsne.find_spec', lambda name: name == 'umap')
    monkeypatch.setitem(sys.modules, 'umap', SimpleNamespace(UMAP=Recorder))
    name, points = project(features, seed=3)
    assert (name, asked['n_neighbors'], asked['metric'], asked['random_state']) == ('UMAP', 11, 'cosine', 3)
    np.testing.assert_array_equal(points, features[:, :2])


def test_each_model_is_a_panel_and_each_class_a_color():
    places = np.arange(8.0).reshape(4, 2)
    figure = draw_points({'a': places, 'b': 9 + places}, np.array([0, 2, 2, 0]), ['cat', 'dog', 'owl'])
    assert [axes.get_title() for axes in figure.axes] == ['a', 'b']
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['cat', 'owl']
    for axes, shift in zip(figure.axes, (0, 9)):
        cat, owl = axes.collections
        assert (cat.get_label(), cat.get_offsets().tolist()) == ('cat', (places[[0, 3]] + shift).tolist())
        assert (owl.get_label(), owl.get_offsets().tolist()) == ('owl', (places[[1, 2]] + shift).tolist())
        assert cat.get_facecolor().tolist() != owl.get_facecolor().tolist()
