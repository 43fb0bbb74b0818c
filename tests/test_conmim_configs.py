"""ConMIM's configs: their data, their models, and that each ablation changes what it says."""

import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from mm_graft.commands.configs import load_config
from tests.tiny import start_from

ROOT = Path(__file__).parents[1] / 'configs' / 'conmim'
PRETRAIN = sorted(ROOT.glob('conmim_*.py'))
LARGE_IMAGES = ROOT / 'benchmarks' / 'vit-p16_conmim-pre_amp-coslr_in1k-384px.py'
FINETUNE = [(path, {}) for path in sorted(ROOT.glob('benchmarks/*.py')) if 'upernet' not in path.name] + [
    (LARGE_IMAGES, {'size': size}) for size in ('small', 'large')]
B = ROOT / 'conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k.py'


def shrink(cfg: Config, width: int = 32) -> Config:
    blocks = 24 if cfg.model.backbone.arch == 'large' else 12
    cfg.model.backbone.update(
        arch={'embed_dims': width, 'num_layers': blocks, 'num_heads': 2, 'feedforward_channels': 2 * width})
    cfg.model.backbone.pop('init_cfg', None)
    return cfg


def test_all_announced_configs_exist():
    assert len(PRETRAIN) == 4
    assert len(FINETUNE) == 6


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_pre_training_takes_a_step(path):
    cfg = shrink(Config.fromfile(path))
    cfg.model.neck.update(in_channels=32, hid_channels=32)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    model.momentum_encoder.max_iters = 10
    cfg.optim_wrapper.accumulative_counts = 1
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = model.backbone.cls_token.clone()
    data = {'inputs': [torch.randint(0, 256, (2, 3, 224, 224)).to(torch.uint8) for _ in range(2)], 'data_samples': None}
    logged = model.train_step(data, wrapper)
    assert torch.isfinite(logged['loss'])
    assert not torch.equal(model.backbone.cls_token, before)
    assert cfg.train_dataloader.batch_size * int(path.name.split('xb')[0].rsplit('_', 1)[1]) == 2048
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs == int(path.stem.split('coslr-')[1].split('e_')[0])


@pytest.mark.parametrize(('path', 'override'), FINETUNE, ids=str)
def test_fine_tuning_takes_a_step(path, override):
    cfg = shrink(load_config(str(path), override))
    cfg.model.head.update(in_channels=32)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    assert model.head.fc.weight.abs().max() <= 2e-5
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    size = cfg.model.backbone.get('img_size', 224)
    losses = model.loss(torch.randn(2, 3, size, size), samples())
    losses['loss'].backward()
    assert torch.isfinite(losses['loss'])
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    rates = {group['depth']: group['lr'] for group in wrapper.param_groups if group.get('depth') is not None}
    assert max(rates.values()) == cfg.lr
    frozen = cfg.model.backbone.get('frozen_stages', -1)
    assert min(rates) == (frozen + 1 if frozen > 0 else 0)
    decay = cfg.optim_wrapper.paramwise_cfg.layer_decay_rate
    last = max(rates)
    assert rates[last - 1] == pytest.approx(cfg.lr * decay)


@pytest.mark.parametrize('path', [B, LARGE_IMAGES, ROOT.parents[1] / 'experiments/cifar10/configs/conmim.py'],
                         ids=lambda path: path.stem)
def test_absolute_positions_and_the_class_token_are_not_decayed_and_relative_positions_are(path):
    cfg = shrink(Config.fromfile(path))
    cfg.model.backbone.use_abs_pos_emb = True
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {name: group['weight_decay'] for group in wrapper.optimizer.param_groups for name in group['param_names']}
    assert decay['backbone.pos_embed'] == decay['backbone.cls_token'] == 0
    tables = [value for name, value in decay.items() if 'rel_pos_bias' in name]
    assert tables
    assert min(tables) > 0


def samples():
    from mmpretrain.structures import DataSample
    return [DataSample().set_gt_score(torch.full((1000,), 1e-3)) for _ in range(2)]


@pytest.fixture
def image() -> dict:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), dtype=np.uint8)
    return {'img': pixels, 'img_shape': (300, 280), 'ori_shape': (300, 280)}


def test_both_views_share_crop_and_flip_and_only_the_second_is_perturbed(image):
    pipeline = Config.fromfile(B).train_pipeline[1:]
    weak, strong = Compose([{**step, '_scope_': 'mmpretrain'} for step in pipeline])(dict(image))['inputs']
    assert weak.shape == strong.shape == (3, 224, 224)
    assert weak.dtype == torch.uint8
    assert not weak.equal(strong)
    same = Compose([*pipeline[:2], {**pipeline[2], 'transforms': [[], []]}, pipeline[3]])(dict(image))['inputs']
    assert same[0].equal(same[1])


def test_at_384_pixels_the_center_of_the_image_is_scored_in_its_proportions():
    pixels = np.full((300, 600, 3), 255, np.uint8)
    pixels[:, 150:450] = 0  # the square in the middle
    item = {'img': pixels, 'img_shape': (300, 600), 'ori_shape': (300, 600)}
    steps = [{**step, '_scope_': 'mmpretrain'} for step in Config.fromfile(LARGE_IMAGES).test_pipeline[1:]]
    seen = Compose(steps)(item)['inputs']
    assert seen.shape == (3, 384, 384)
    assert seen[:, :, 2:-2].max() == 0


def overrides() -> list[str]:
    """The override column of the README's table of ablations."""
    cells = [line.split('|')[4] for line in (ROOT / 'README.md').read_text().splitlines() if line.count('|') == 5]
    return [cell.split('`')[1] for cell in cells if '`model.' in cell]


def test_every_ablation_of_the_paper_has_its_override():
    assert len(overrides()) == 12


@pytest.mark.parametrize('options', overrides())
def test_an_ablation_is_an_override_on_the_command_line(options):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    usual = shrink(Config.fromfile(B))
    usual.model.neck.update(in_channels=32, hid_channels=32)
    cfg = copy.deepcopy(usual)
    cfg.merge_from_dict(parser.parse_args(['--cfg-options', *options.split()]).cfg_options)
    assert cfg.model != usual.model
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    losses = model.loss([torch.randn(2, 3, 224, 224) for _ in range(2)])
    losses['loss_contrast'].backward()
    assert torch.isfinite(losses['loss_contrast'])


def test_a_conmim_teacher_is_grafted(tmp_path):
    teacher = shrink(Config.fromfile(B))
    teacher.model.neck.update(in_channels=32, hid_channels=32)
    teacher = MODELS.build({**teacher.model, 'data_preprocessor': teacher.data_preprocessor})
    teacher.init_weights()
    for parameter in teacher.momentum_encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.save({'state_dict': teacher.state_dict()}, tmp_path / 'a.pth')
    cfg = Config.fromfile(ROOT.parent / 'graft' / 'vit-b_conmim2mocov3.py')
    cfg.model.backbone.arch = teacher.backbone.arch_settings
    cfg.model.neck.update(in_channels=32, hid_channels=32, norm_cfg={'type': 'BN1d'})
    cfg.model.head.predictor.update(hid_channels=32, norm_cfg={'type': 'BN1d'})
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    assert cfg.default_hooks.init.branch == 'momentum'
    start_from(model, str(tmp_path / 'a.pth'), branch='momentum')
    for encoder in (model.backbone, model.momentum_encoder.module[0]):
        torch.testing.assert_close(encoder.layers[3].attn.qkv.weight,
                                   teacher.momentum_encoder.module[0].layers[3].attn.qkv.weight)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {group['stage']: group['lr_mult'] for group in wrapper.param_groups if 'stage' in group}
    assert rates == {1: 0.1, 2: 0.1, 3: 1.0}
    model.momentum_encoder.max_iters = 10
    model.loss([torch.randn(2, 3, 224, 224) for _ in range(2)])['loss'].backward()
    idle = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not idle
    assert not model.backbone.patch_embed.projection.weight.requires_grad
