import pytest
import torch

from mm_graft.encoders import build_encoder, load_encoder
from mm_graft.evaluation.datasets import build_datasets
from mm_graft.evaluation.knn import knn_accuracy, standardized
from mm_graft.evaluation.label_free import rank_me
from mm_graft.evaluation.layer_features import encode_layers
from mm_graft.evaluation.layers import LINEAR, curves, features_of_blocks
from mm_graft.evaluation.linear_probe import LinearProbeSettings, linear_probe, sweep_grid
from tests.evaluation.test_protocols import planted

FEW = LinearProbeSettings(tuple(sweep_grid((1, ), (0, ))), epochs=3, batch_size=64, batch_norm=True)


def layered(seed, pools=2):
    """Three blocks, of which the second says the class in the last pool."""
    features, labels = planted(seed=seed, noise=0.3)
    layers = torch.randn(200, 3, pools, 8, generator=torch.Generator().manual_seed(7 + seed))
    layers[:, 1, -1] = 5 * features
    return layers, labels


def test_every_block_and_pool_is_measured_for_itself():
    train, test = layered(0), layered(1)
    found = curves(train, test, linear=FEW)
    assert list(found) == ['class token', 'mean of patches']
    for measure in ('knn', 'linear'):
        values = {pool: found[pool][measure] for pool in found}
        assert values['mean of patches'][1] > 90
        assert max(values['class token'] + values['mean of patches'][::2]) < 50
    ours, others = standardized(train[0][:, 2, 0], test[0][:, 2, 0])
    assert found['class token']['knn'][2] == 100 * knn_accuracy(ours, train[1], others, test[1], (20, ))[20]
    alone = linear_probe(train[0][:, 2, 0], train[1], test[0][:, 2, 0], test[1], settings=FEW)  # whose seed is 0
    assert found['class token']['linear'][2] == 100 * alone.accuracy
    assert found['class token']['rankme'] == pytest.approx([rank_me(test[0][:, block, 0]) for block in range(3)])


def test_without_a_class_token_there_is_one_pool():
    assert list(curves(layered(0, pools=1), layered(1, pools=1), linear=FEW)) == ['mean of patches']


def test_of_few_training_images_all_are_neighbors():
    (train, labels), test = layered(0, pools=1), layered(1, pools=1)
    few = curves((train[:9], labels[:9]), test, linear=FEW)['mean of patches']['knn']
    ours, others = standardized(train[:9, 1, 0], test[0][:, 1, 0])
    assert few[1] == 100 * knn_accuracy(ours, labels[:9], others, test[1], (9, ))[9]


def test_the_classifier_that_is_taken_unasked_learns_and_sees_scales_alike():
    train, test = layered(0, pools=1), layered(1, pools=1)
    assert LINEAR.batch_norm
    assert LINEAR.grid == ((0.01, 0), (0.1, 0), (1, 0))  # a decade apart, without decay
    assert curves(train, test)['mean of patches']['linear'][1] > 95
    small = [(features[:, 1:2] / 1000, labels) for features, labels in (train, test)]
    assert curves(*small)['mean of patches']['linear'][0] > 95


def test_the_seed_is_that_of_the_classifier():
    first, second = (curves(layered(0), layered(1), seed=seed, linear=FEW) for seed in (0, 1))
    assert first['class token']['knn'] == second['class token']['knn']
    assert first['class token']['linear'] != second['class token']['linear']


def test_an_encoder_without_class_token_has_the_means_alone(run):
    cfg = run[0].copy()
    cfg.model.backbone.update(with_cls_token=False, out_type='avg_featmap')
    train, _ = build_datasets(cfg)
    layers, labels = features_of_blocks(build_encoder(cfg), train, [0, 11, 6], batch_size=2, workers=0)
    assert layers.shape == (3, 4, 1, 16)
    assert labels.tolist() == [0, 1, 1]


def test_images_that_cannot_be_used_are_left_out_also_where_they_fill_a_batch(run, tmp_path):
    for index in (0, 1, 2):
        (tmp_path / f'train/dark/{index}.png').write_bytes(b'broken')
    train, _ = build_datasets(run[0])
    layers, labels = features_of_blocks(build_encoder(run[0]), train, [0, 1, 2, 6], batch_size=2, workers=0)
    assert (len(layers), labels.tolist()) == (1, [1])


def test_features_are_those_of_the_images_that_are_named(run):
    cfg, checkpoint, _ = run
    encoder, (train, _) = load_encoder(cfg, checkpoint), build_datasets(cfg)
    layers, labels = features_of_blocks(encoder, train, [1, 7], batch_size=1, workers=0)
    assert layers.shape == (2, 4, 2, 16)
    assert labels.tolist() == [0, 1]
    image = encoder.data_preprocessor({'inputs': [train[7]['inputs']], 'data_samples': [train[7]['data_samples']]})
    with torch.no_grad():
        torch.testing.assert_close(layers[1:], encode_layers(encoder.backbone, image['inputs']))
