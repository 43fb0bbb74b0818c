"""The evaluation configs: each builds, takes a step, and trains what it says."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

import mm_graft.registry  # noqa: F401 - lets `_base_ = 'mmseg::…'` be found

CONFIGS = sorted((Path(__file__).parents[1] / 'configs' / 'eval').glob('*.py'))


def load(name: str) -> Config:
    return Config.fromfile(next(path for path in CONFIGS if path.stem == name))


def shrunk(cfg: Config) -> Config:
    blocks = 24 if cfg.model.backbone.arch == 'large' else 12
    cfg.model.backbone.update(
        img_size=32, arch={'embed_dims': 16, 'num_layers': blocks, 'num_heads': 2, 'feedforward_channels': 32})
    if cfg.model.get('neck'):
        cfg.model.neck.update({'in_channels': 16, 'out_channels': 24} if 'in_channels' in cfg.model.neck
                              else {'embed_dims': 16, 'num_heads': 2})
    cfg.model.head.update(in_channels=24 if 'out_channels' in (cfg.model.get('neck') or {}) else 16)
    return cfg


@pytest.mark.parametrize(('path', 'frozen'), [*((path, None) for path in CONFIGS), (CONFIGS[2], 6)],
                         ids=lambda value: getattr(value, 'stem', value))
def test_config_takes_a_step_and_trains_only_what_is_not_frozen(path, frozen):
    cfg = shrunk(Config.fromfile(path))
    if frozen:
        cfg.model.backbone.frozen_stages = frozen
    model = MODELS.build({**cfg.model, 'data_preprocessor': {**cfg.data_preprocessor, 'type': 'ClsDataPreprocessor'}})
    model.train()
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    labels = (1, cfg.model.head.num_classes - 1)
    data = {'inputs': images, 'data_samples': [DataSample().set_gt_label(label) for label in labels]}
    before = copy.deepcopy(model.state_dict())
    for group in wrapper.optimizer.param_groups:
        group['lr'] = 0.1
    model.train_step(data, wrapper)
    logged = model.train_step(data, wrapper)
    assert torch.isfinite(logged['loss'])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert 'backbone.pos_embed' not in changed
    assert 'head.fc.weight' in changed
    frozen = cfg.model.backbone.get('frozen_stages', 0)
    assert ('backbone.patch_embed.projection.weight' in changed) == (frozen == 0)
    whole = 'out_type' not in cfg.model.backbone
    assert any(name.startswith(f'backbone.layers.{frozen}.') for name in changed) == whole
    assert not any(name.startswith(f'backbone.layers.{block}.') for block in range(frozen) for name in changed)


@pytest.mark.parametrize('block', [6, 9, 12])
def test_new_blocks_stand_directly_behind_the_frozen_one(block):
    cfg = shrunk(load('probe-depth_vit-b'))
    cfg.model.backbone.out_indices = [block - 1]
    model = MODELS.build({**cfg.model, 'data_preprocessor': {**cfg.data_preprocessor, 'type': 'ClsDataPreprocessor'}})
    model.eval()
    seen = []
    model.backbone.layers[block - 1].register_forward_hook(lambda module, args, output: seen.append(output))
    model.neck.blocks[0].register_forward_hook(lambda module, args, output: seen.append(args[0]))
    model.extract_feat(torch.randn(2, 3, 32, 32))
    assert torch.equal(*seen)


def test_recipes_are_those_of_the_paper_or_the_authors_command():
    facts = {'finetune_vit-b': (0.6, 100, 2e-3), 'finetune_vit-l': (0.8, 50, 2e-3),
             'fewshot10_vit-b': (0.75, 200, 1.19765625e-4), 'fewshot10_vit-l': (0.65, 400, 1.2e-4)}
    for name, (decay, epochs, lr) in facts.items():
        cfg = load(name)
        assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == decay
        assert cfg.train_cfg.max_epochs == epochs
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(lr)
        assert cfg.param_scheduler.min_ratio * lr == pytest.approx(1e-6)


@pytest.mark.parametrize('name', ['fewshot10_vit-b', 'fewshot10_vit-l'])
def test_ten_percent_reads_a_list_and_starts_from_the_first_projector_layer(name):
    cfg = load(name)
    assert cfg.train_dataloader.dataset.ann_file.endswith('10percent.txt')
    assert cfg.default_hooks.init.projection == 'neck.layer'
    assert cfg.model.neck.type == 'mm_graft.FirstProjection'


def test_both_pipelines_run(tmp_path):
    import cv2
    import numpy as np
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((300, 280, 3), np.uint8))
    cfg = load('finetune_vit-b')
    for pipeline in (cfg.train_pipeline, cfg.test_pipeline):
        item = Compose(pipeline)({'img_path': str(tmp_path / 'a.png'), 'gt_label': 0})
        assert item['inputs'].shape == (3, 224, 224)
