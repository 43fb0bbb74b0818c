import pytest
import torch
from mmengine.config import Config

from mm_graft.evaluation.frozen import begin, build_encoder


def test_features_are_extracted_when_first_asked_for(run, tmp_path):
    evaluation = begin(*run)
    assert not (tmp_path / 'cache').exists()
    assert evaluation.data.train_features.shape == (12, 16)
    assert evaluation.data.num_classes == 2
    assert evaluation.data.train_names[0] == 'dark/0.png'
    assert (tmp_path / 'cache' / evaluation.keys[0]).is_dir()


def test_keys_differ_between_the_sets(run):
    evaluation = begin(*run)
    assert evaluation.keys[0] != evaluation.keys[1]


def test_encoder_normalises_as_the_config_says_and_needs_no_checkpoint_file(run):
    cfg = run[0]
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    encoder = build_encoder(cfg)
    image = torch.full((3, 32, 32), 127, dtype=torch.uint8)
    inputs = encoder.data_preprocessor({'inputs': [image]}, False)['inputs']
    assert (inputs == 0).all()


def test_config_without_backbone_is_refused():
    with pytest.raises(ValueError, match=r'no `model\.backbone`'):
        build_encoder(Config({'model': {'type': 'X'}}))
