"""What the configs of MIM-Refiner say beyond what all configs have to."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from tests.test_overrides import ROWS, changed

ROOT = Path(__file__).parents[1]
REFINER = ROOT / 'configs' / 'refiner'


def test_the_pipeline_makes_two_global_and_ten_local_views_and_keeps_the_id():
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'imagenet_multi_crop.py')
    init_default_scope('mmpretrain')
    pipeline = Compose(cfg.train_pipeline[1:])  # the image is here already
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[:, :200] = 255
    packed = pipeline(dict(img=image, sample_idx=7, img_path='a.png', gt_label=3))
    assert [tuple(view.shape) for view in packed['inputs']] == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 10
    assert packed['data_samples'].sample_idx == 7
    assert packed['data_samples'].img_path == 'a.png'


@pytest.mark.parametrize(('name', 'blocks', 'temperature', 'rate', 'neighbors', 'epochs', 'frozen', 'side'), [
    ('vit-l_mae_heads', range(16, 24), 0.2, 8e-4, 1, 20, None, 96),
    ('vit-l_mae_refined', range(16, 24), 0.2, 1.6e-3, 20, 30, None, 96),
    ('vit-h_mae_refined', range(20, 32), 0.3, 8e-4, 20, 30, None, 98),
    ('vit-2b_mae_refined_fsdp', range(16, 24), 0.35, 8e-4, 20, 20, 6, 98)])
def test_the_published_configs_have_the_authors_settings(
        name, blocks, temperature, rate, neighbors, epochs, frozen, side):
    cfg = Config.fromfile(REFINER / f'{name}.py')
    head = cfg.model.head
    assert cfg.model.backbone.out_indices == list(blocks)
    assert (head.loss.temperature, head.loss.pairs) == (temperature, 'published')
    assert (head.queue.length, head.queue.num_neighbors) == (65536, neighbors)
    assert (head.hid_channels, head.predictor_channels, head.out_channels) == (2048, 4096, 256)
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate)
    assert (cfg.train_cfg.max_epochs, cfg.param_scheduler.warmup) == (epochs, 4)
    assert cfg.model.backbone.get('frozen_stages') == frozen
    multi = cfg.train_dataloader.dataset.pipeline[1]
    assert multi.num_views == [1, 1, 10]
    assert [branch[0].scale for branch in multi.transforms] == [224, 224, side]
    assert cfg.batch_size % cfg.train_dataloader.batch_size == 0


def test_every_run_ends_at_the_authors_rate_and_decays_heads_as_they_do():
    runs = [changed(row.config, row.override.split()) for row in ROWS if row.place == 'refiner']
    assert len(runs) > 15
    for cfg in runs:
        optimizer = cfg.optim_wrapper.optimizer
        assert optimizer.lr * cfg.param_scheduler.min_ratio == pytest.approx(1e-6)
        assert not cfg.param_scheduler.from_zero
        heads = cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {}).get('heads', dict(decay_mult=1.0))
        assert optimizer.weight_decay * heads['decay_mult'] == pytest.approx(1e-5)
        assert cfg.model.get('train_encoder', True) == (cfg.model.get('momentum') is not None)


def test_readme_has_every_config():
    readme = (REFINER / 'README.md').read_text()
    assert [path.name for path in REFINER.glob('*.py') if f'({path.name})' not in readme] == []
