import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import METRICS, MODELS
from PIL import Image
from torch import nn

from mm_graft.evaluation.features import encode
from mm_graft.evaluation.label_free import label_free_measures
from mm_graft.evaluation.online_probe import LabelFreeProbe, OnlineProbe
from tests.defaults import defaults
from tests.tiny import VIT


class MeanColor(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images.mean((2, 3)) * self.scale


@pytest.fixture
def cfg(tmp_path):
    for split in ('train', 'test'):
        for label, name in enumerate(('blue', 'red')):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(8):
                image = np.full((8, 8, 3), index, np.uint8)
                image[..., 2 * label] = 200
                cv2.imwrite(str(tmp_path / split / name / f'{index}.png'), image)
    return Config({
        'model': {'backbone': {'img_size': 8}},
        'train_dataloader': {'dataset': {'type': 'CustomDataset', 'data_root': str(tmp_path), 'data_prefix': 'train',
                                         'pipeline': [{'type': 'LoadImageFromFile'}]}}})


def build(cfg, **changes):
    return METRICS.build({'type': 'mm_graft.OnlineProbe', 'cfg': cfg, 'workers': 0, 'pool': 'avg', **changes})


def test_separable_images_are_all_right_and_the_encoder_keeps_its_mode(cfg):
    encoder = MeanColor().train()
    result = build(cfg, k=3, linear_epochs=30).evaluate(encoder)
    assert result['knn_top1'] == 100
    assert result['linear_top1'] == 100
    assert encoder.training


def test_linear_probe_can_be_left_out_and_images_bounded(cfg):
    probe = build(cfg, linear_epochs=0, train_images=8, test_images=4)
    assert [len(rows) for rows in probe.rows] == [8, 4]
    assert probe.evaluate(MeanColor()).keys() == {'knn_top1'}


def test_no_usable_image_is_an_error(cfg, monkeypatch):
    monkeypatch.setattr('mm_graft.evaluation.online_probe.encode_together', lambda *args: iter(()))
    with pytest.raises(ValueError, match='none of 16 images can be used'):
        build(cfg).evaluate(MeanColor())


def test_another_data_set_takes_the_place_of_the_runs(cfg, tmp_path):
    (tmp_path / 'test').rename(tmp_path / 'val')
    own = Config({**cfg, 'train_dataloader': {'dataset': {'type': 'CustomDataset', 'data_root': 'nowhere'}}})
    train = {'type': 'mm_graft.ImageFolder', 'data_root': str(tmp_path / 'train')}
    beside = build(own, train=train, linear_epochs=0)
    assert [len(dataset) for dataset in beside.sets] == [16, 16]
    assert beside.evaluate(MeanColor()) == {'knn_top1': 100}
    (tmp_path / 'val').rename(tmp_path / 'elsewhere')
    given = build(own, train=train, test={**train, 'data_root': str(tmp_path / 'elsewhere')})
    assert given.sets[1].data_root == str(tmp_path / 'elsewhere')
    with pytest.raises(ValueError, match='no training set'):
        build(cfg, test=train)


def test_neighbors_and_rates_are_the_usual_ones():
    usual = defaults(OnlineProbe)
    assert (usual['k'], usual['temperature'], usual['batch_size']) == (20, 0.07, 256)
    assert (usual['train_images'], usual['test_images']) == (10000, 10000)
    assert usual['base_lrs'] == (0.01, 0.1, 1, 10)
    assert (usual['linear_epochs'], usual['pool']) == (20, 'cls')
    assert defaults(LabelFreeProbe) == {'images': 200, 'pool': 'cls'}


def test_the_linear_probe_sweeps_the_rates_given_without_weight_decay(cfg):
    settings = build(cfg, base_lrs=(0.3, 2), linear_epochs=7).settings
    assert settings.grid == ((0.3, 0), (2, 0))
    assert (settings.epochs, settings.batch_size) == (7, 1024)


PREPROCESSOR = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True)


@pytest.fixture
def unlabeled(tmp_path):
    """Images of one color each, one of them broken, seen by a pre-training config of two views."""
    for index in range(6):
        Image.new('RGB', (40, 40), (40 * index, 10, 20)).save(tmp_path / f'{index}.png')
    (tmp_path / '6.png').write_bytes(b'broken')
    return Config(dict(
        model=dict(backbone=dict(img_size=32), data_preprocessor=PREPROCESSOR),
        train_dataloader=dict(dataset=dict(
            type='mm_graft.ImageFolder', data_root=str(tmp_path), with_label=False, pipeline=[
                dict(type='mm_graft.TolerantLoadImageFromFile'),
                dict(type='MultiView', num_views=[2], transforms=[[dict(type='RandomFlip')]]),
                dict(type='PackInputs')]))))


def test_images_are_those_of_training_as_an_evaluation_sees_them(unlabeled):
    pixels = LabelFreeProbe(unlabeled).pixels
    assert pixels.shape == (6, 3, 32, 32)
    assert pixels[:, :, 0, 0].tolist() == [[40 * index, 10, 20] for index in range(6)]  # RGB
    assert LabelFreeProbe(unlabeled, images=3).pixels[:, 0, 0, 0].tolist() == [0, 120]  # the last is broken
    with pytest.raises(ValueError, match='1 of 2 images can be read'):
        LabelFreeProbe(unlabeled, images=2)


def test_the_encoder_is_measured_in_eval_mode_behind_the_normalization_and_keeps_its_mode(unlabeled):
    torch.manual_seed(0)
    vit = MODELS.build(dict(type='mm_graft.GraftViT', **VIT, drop_rate=0.5))
    vit.init_weights()
    vit.train()
    probe = LabelFreeProbe(unlabeled)
    found = probe.evaluate(vit)
    assert vit.training
    assert found == probe.evaluate(vit)
    mean, std = (torch.tensor(PREPROCESSOR[name]).view(3, 1, 1) for name in ('mean', 'std'))
    vit.eval()
    expected = label_free_measures(lambda pixels: encode(vit, (pixels - mean) / std), probe.pixels)
    assert found == pytest.approx(expected)
    assert probe.evaluate(vit) != LabelFreeProbe(unlabeled, pool='avg').evaluate(vit)


def test_without_training_data_it_is_said(unlabeled):
    with pytest.raises(ValueError, match='no `train_dataloader'):
        LabelFreeProbe(Config(dict(model=unlabeled.model)))
