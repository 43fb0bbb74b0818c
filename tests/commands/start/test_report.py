import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from PIL import Image

from mm_graft.commands.start import report
from mm_graft.commands.start.labels import class_features
from mm_graft.encoders import Encoder
from tests.tiny import VIT


@pytest.fixture
def encoder():
    vit = MODELS.build(dict(type='mm_graft.GraftViT', **VIT))
    vit.init_weights()
    return Encoder(vit, mean=[120.] * 3, std=[60.] * 3).eval()


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def test_pictures_that_cannot_be_read_are_left_out(tmp_path):
    Image.new('RGB', (40, 30), (255, 0, 0)).save(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'x')
    pictures = report.readable([tmp_path / 'a.png', tmp_path / 'b.png'], (16, 16))
    assert pictures.shape == (1, 16, 16, 3)
    assert pictures[0, 0, 0].tolist() == [255, 0, 0]
    assert report.readable([tmp_path / 'a.png'] * 9, (16, 16), count=4).shape[0] == 4


def test_random_weights_follow_from_the_seed_and_are_not_listed(caplog):
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.addHandler(caplog.handler)
    MODELS.build(dict(type='mm_graft.GraftViT', **VIT)).init_weights()
    assert 'patch_embed.projection.weight' in caplog.text
    caplog.clear()
    cfg = Config(dict(default_scope='mmpretrain', randomness=dict(seed=3), model=dict(
        backbone=dict(type='mm_graft.GraftViT', **VIT), data_preprocessor=dict(mean=[120.] * 3, std=[60.] * 3))))
    first, again = (report.untrained(cfg).backbone.patch_embed.projection.weight for _ in range(2))
    torch.testing.assert_close(first, again)
    assert 'patch_embed' not in caplog.text
    assert logger.level == level
    cfg.randomness.seed = 4
    assert not torch.equal(first, report.untrained(cfg).backbone.patch_embed.projection.weight)


def test_measures_compare_the_encoders_column_by_column(encoder, pixels):
    flat = Encoder(MODELS.build(dict(type='mm_graft.GraftViT', **VIT)), mean=[120.] * 3, std=[60.] * 3).eval()
    torch.nn.init.zeros_(flat.backbone.ln1.weight)  # all its features are one: there is no decay
    encoders = {'before': encoder, 'after': flat}
    features = {name: class_features(one, pixels) for name, one in encoders.items()}
    header, rank, _, alpha = report.measures(encoders, features, pixels).table
    assert header == ['measure', 'before', 'after']
    assert rank[1] > 1.5 > rank[2]
    assert alpha[0] == 'α-ReQ'
    assert alpha[1] > 0
    assert alpha[2] == '–'


def test_pictures_show_every_encoder(encoder, pixels):
    both = {'before': encoder, 'after': encoder}
    assert len(report.patches(both, pixels).figure.axes) == 3 * report.SHOWN
    features = {name: report.class_features(encoder, pixels) for name in both}
    titles = [axis.get_title() for axis in report.gallery(features, pixels).figure.axes]
    assert {'nearest, before', 'nearest, after'} <= set(titles)
