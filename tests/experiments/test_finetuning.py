from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from experiments.finetuning import finetune_config
from mm_graft.encoders import build_encoder

RECIPE = Path(__file__).parents[2] / 'configs' / 'eval' / 'fewshot10_vit-b.py'


@pytest.fixture
def run(tmp_path, tiny_arch):
    """A config with a train and a test folder of two classes, and a checkpoint."""
    for split in ('train', 'test'):
        for name in ('dark', 'light'):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / '0.png').touch()
    cfg = Config(dict(
        model=dict(type='ImageClassifier', data_preprocessor=dict(mean=[127.0] * 3, std=[64.0] * 3, to_rgb=True),
                   backbone=dict(type='VisionTransformer', arch=tiny_arch, img_size=32, patch_size=16)),
        train_dataloader=dict(dataset=dict(type='CustomDataset', data_root=str(tmp_path), data_prefix='train',
                                           pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))))
    state = {f'backbone.{name}': value for name, value in build_encoder(cfg).backbone.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'vit.pth')
    return cfg, str(tmp_path / 'vit.pth')


def put(run, tmp_path, **changes):
    cfg, checkpoint = run
    return finetune_config(Config.fromfile(RECIPE), cfg, checkpoint, [0, 1, 6, 7], 2, tmp_path / 'work', **changes)


def test_checkpoint_without_projector_gets_a_plain_classifier(run, tmp_path):
    cfg = put(run, tmp_path)
    assert cfg.model.neck is None
    assert cfg.model.head.in_channels == 16
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 2


@pytest.mark.parametrize('branch', ['base', 'momentum'])
def test_contrastive_checkpoint_starts_from_its_first_projector_layer(run, tmp_path, branch):
    state = torch.load(run[1], weights_only=True)['state_dict']
    name = {'base': 'neck.fc0.weight', 'momentum': 'momentum_encoder.module.1.fc0.weight'}[branch]
    torch.save({'state_dict': {**state, name: torch.zeros(24, 16)}}, run[1])
    cfg = put(run, tmp_path, branch=branch)
    assert cfg.model.neck.out_channels == cfg.model.head.in_channels == 24
    assert cfg.default_hooks.init.projection == 'neck.layer'
    assert cfg.default_hooks.init.branch == branch


def test_data_are_the_few_images_at_the_encoders_size_and_epochs_can_be_set(run, tmp_path):
    cfg = put(run, tmp_path, epochs=3, workers=0)
    assert cfg.train_dataloader.dataset.indices == [0, 1, 6, 7]
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 32
    assert cfg.test_dataloader.dataset.data_prefix == 'test'
    assert cfg.train_cfg.max_epochs == 3
    assert cfg.param_scheduler.warmup == 1
    assert not cfg.train_dataloader.persistent_workers
    assert 'split' not in cfg.train_dataloader.dataset
    assert put(run, tmp_path).train_cfg.max_epochs == 200
