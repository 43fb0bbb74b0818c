"""Segmentation, which trains by iterations, is interrupted and resumed with the same bits."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.own_process import SECONDS

ROOT = Path(__file__).parents[1]
CONFIG = """
_base_ = ['{root}/experiments/camvid/configs/vit-tiny_upernet_camvid-half.py']
custom_imports = dict(imports=['restart_parts'])
train_dataloader = dict(batch_size=2, dataset=dict(data_root='{folder}'))
train_cfg = dict(max_iters=6)
custom_hooks = [dict(type='KilledOnce', rank=0, iteration=3, name='SIGTERM')]
"""


def write_images(folder):
    for kind, suffix in {'img_dir': 'jpg', 'ann_dir': 'png'}.items():
        (folder / kind / 'train').mkdir(parents=True)
        for index in range(6):
            random = np.random.default_rng(index)
            pixels = random.integers(0, 255, (180, 240, 3)) if suffix == 'jpg' else random.integers(0, 12, (180, 240))
            cv2.imwrite(str(folder / kind / 'train' / f'{index}.{suffix}'), pixels.astype(np.uint8))


def train(config, work_dir):
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'train.py'), str(config), '--work-dir', str(work_dir), '--resume',
         '--no-validate', '--init', 'none'], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        timeout=SECONDS,
        env={**os.environ, 'PYTHONPATH': f'{ROOT}{os.pathsep}{ROOT / "tests"}', 'OMP_NUM_THREADS': '1',
             'CUDA_VISIBLE_DEVICES': ''})
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_segmentation_run_that_is_asked_to_stop_ends_with_the_same_bits(tmp_path):
    write_images(tmp_path / 'data')
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(root=ROOT, folder=tmp_path / 'data'))
    (tmp_path / 'whole').mkdir()
    (tmp_path / 'whole' / 'killed').touch()
    train(config, tmp_path / 'whole')
    assert 'SIGTERM requested a stop: saved iteration 4' in train(config, tmp_path / 'run')
    assert 'resumed epoch: 0, iter: 4' in train(config, tmp_path / 'run')
    left, right = (torch.load(tmp_path / name / 'iter_6.pth', weights_only=False) for name in ('whole', 'run'))
    for key, value in left['state_dict'].items():
        assert torch.equal(value, right['state_dict'][key]), key
