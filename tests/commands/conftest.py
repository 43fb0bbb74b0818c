"""Command lines, run inside this process."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mm_graft.commands.main import main
from mm_graft.commands.messages import TRACEBACK
from tests.own_process import SECONDS
from tests.tiny import grafted_mocov3, mae_file

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = ['{root}/configs/_base_/runtime.py']
model = {model}
idle = 1
view = [dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.3, 1.0))]
train_dataloader = dict(
    batch_size=2, num_workers=0, drop_last=True, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset', data_root='{folder}/images', with_label=False,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=[2], transforms=[view]),
                  dict(type='PackInputs')]))
optim_wrapper = dict(
    constructor='mm_graft.GraftOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1),
    paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0]))
param_scheduler = dict(type='mm_graft.WarmupCosineLR', warmup=1, convert_to_iter_based=True)
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='{folder}/mae.pth'))
"""


@pytest.fixture
def config(tmp_path):
    """A config that would train."""
    (tmp_path / 'images').mkdir()
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), pixels)
    path = tmp_path / 'config.py'
    mae_file(tmp_path / 'mae.pth')
    path.write_text(CONFIG.format(root=ROOT, folder=tmp_path, model=grafted_mocov3()))
    return path


@pytest.fixture
def run(capsys):
    """A function that runs a command line, and returns what it prints."""

    def call(*words):
        capsys.readouterr()
        main(arguments=list(map(str, words)))
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """A function that runs a command line in a folder of its own, and returns the one line with which it ends."""
    monkeypatch.delenv(TRACEBACK, raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(arguments=list(map(str, words)))
        captured = capsys.readouterr()
        assert end.value.code == 1
        assert 'Traceback' not in captured.err
        assert 'Epoch(train)' not in captured.out
        lines = [line for line in captured.err.splitlines() if line.startswith('error: ')]
        assert len(lines) == 1, captured.err
        return lines[0]

    return call


@pytest.fixture
def process(tmp_path):
    """A function that runs Python as a process of its own in an empty folder."""

    def call(*words, **environment):
        known = {**os.environ, 'PYTHONPATH': str(ROOT), **environment}
        return subprocess.run([sys.executable, *map(str, words)], cwd=tmp_path, text=True, capture_output=True,
                              check=False, timeout=SECONDS, env=known)

    return call
