import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from mm_graft.evaluation.features import encode
from mm_graft.evaluation.label_free import label_free_measures
from mm_graft.evaluation.online_label_free import LabelFreeProbe
from tests.tiny import VIT

PREPROCESSOR = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0], to_rgb=True)


@pytest.fixture
def cfg(tmp_path):
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


def test_images_are_those_of_training_as_an_evaluation_sees_them(cfg):
    pixels = LabelFreeProbe(cfg).pixels
    assert pixels.shape == (6, 3, 32, 32)
    assert pixels[:, :, 0, 0].tolist() == [[40 * index, 10, 20] for index in range(6)]  # RGB
    assert LabelFreeProbe(cfg, images=3).pixels[:, 0, 0, 0].tolist() == [0, 120]  # the last is broken
    with pytest.raises(ValueError, match='1 of 2 images can be read'):
        LabelFreeProbe(cfg, images=2)


def test_the_encoder_is_measured_in_eval_mode_behind_the_normalization_and_keeps_its_mode(cfg):
    torch.manual_seed(0)
    vit = MODELS.build(dict(type='mm_graft.GraftViT', **VIT, drop_rate=0.5))
    vit.init_weights()
    vit.train()
    probe = LabelFreeProbe(cfg)
    found = probe.evaluate(vit)
    assert vit.training
    assert found == probe.evaluate(vit)
    mean, std = (torch.tensor(PREPROCESSOR[name]).view(3, 1, 1) for name in ('mean', 'std'))
    vit.eval()
    expected = label_free_measures(lambda pixels: encode(vit, (pixels - mean) / std), probe.pixels)
    assert found == pytest.approx(expected)
    assert probe.evaluate(vit) != LabelFreeProbe(cfg, pool='avg').evaluate(vit)


def test_without_training_data_it_is_said(cfg):
    with pytest.raises(ValueError, match='no `train_dataloader'):
        LabelFreeProbe(Config(dict(model=cfg.model)))
