"""Every segmentation config takes a converted tiny checkpoint through the Runner's own hooks and learns from it."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmengine.structures import PixelData

from mm_graft.checkpoints import convert_file, read_checkpoint
from tests.test_configs import build

ROOT = Path(__file__).parents[1] / 'configs'
CONFIGS = sorted((ROOT / 'segmentation').glob('*.py'))
KINDS = {'graft': 'mocov3', 'mocov3': 'mocov3', 'mae': 'mae', 'localmim': 'mmpretrain'}


def kind_of(path):
    return path.stem.split('_')[1].removesuffix('-pre')


@pytest.fixture
def checkpoint(tmp_path):
    """A pre-trained encoder of 224 pixels in the layout that the config's method has, with weights of its own."""

    def make(cfg, backbone, kind):
        source = MODELS.build(dict(
            type='mmpretrain.VisionTransformer', img_size=224, patch_size=16,
            arch=dict(embed_dims=backbone.embed_dims, num_layers=backbone.num_layers, num_heads=2,
                      feedforward_channels=48)))
        tensors = {f'backbone.{name}': torch.randn_like(tensor) / 10 for name, tensor in source.state_dict().items()}
        torch.save({'state_dict': tensors}, tmp_path / 'host.pth')
        convert_file(tmp_path / 'host.pth', tmp_path / 'converted.pth', None, KINDS[kind])
        return tmp_path / 'converted.pth', tensors

    return make


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_segmentation_config_loads_a_converted_checkpoint_and_takes_a_step(path, checkpoint):
    from types import SimpleNamespace

    from mmseg.structures import SegDataSample
    cfg, model, optim_wrapper = build(path)
    file, tensors = checkpoint(cfg, model.backbone, kind_of(path))
    init_default_scope('mmseg')
    hook, = (HOOKS.build({**config, 'checkpoint': str(file)}) for config in cfg.custom_hooks)
    hook.before_train(SimpleNamespace(iter=0, model=model))
    last = f'layers.{model.backbone.num_layers - 1}.attn.qkv.weight'
    assert model.backbone.get_parameter(last).equal(tensors[f'backbone.{last}'])
    assert len(read_checkpoint(file)) == len(tensors)

    images = [torch.randint(0, 256, (3, 512, 512), dtype=torch.uint8)] * 2
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, 150, (1, 512, 512)))) for _ in images]
    for group in optim_wrapper.optimizer.param_groups:
        group['lr'] = 1e-3
    before = model.backbone.get_parameter(last).detach().clone()
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    loss, log = model.parse_losses(model._run_forward(data, mode='loss'))
    optim_wrapper.update_params(loss)
    assert torch.isfinite(loss)
    assert not model.backbone.get_parameter(last).equal(before)
    assert {'decode.loss_ce', 'aux.loss_ce'} <= set(log)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_segmentation_config_is_that_of_the_protocol(path):
    cfg = Config.fromfile(path)
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
    assert cfg.optim_wrapper.type == 'mm_graft.AutocastOptimWrapper'
    assert 0 < cfg.optim_wrapper.paramwise_cfg.layer_decay_rate < 1
    assert cfg.train_dataloader.dataset.type == 'ADE20KDataset'
    assert not cfg.model.backbone.final_norm
    assert len(cfg.model.backbone.out_indices) == 4
    assert cfg.custom_hooks[0].resize
