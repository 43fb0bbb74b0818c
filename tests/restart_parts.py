"""A run as small as can be, one of whose processes is killed the first time: parts of a config, found by import."""

import os
import signal
import time
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset


@DATASETS.register_module()
class DrawnNumbers(Dataset):

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {'inputs': torch.rand(4) + index}


@DATASETS.register_module()
class TwoNoisyViews(Dataset):

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {'inputs': [torch.rand(3, 32, 32), torch.rand(3, 32, 32)], 'data_samples': DataSample()}


@MODELS.register_module()
class SquaredLinear(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, inputs, mode='loss'):
        return {'loss': self.layer(inputs).square().mean()}


@HOOKS.register_module()
class KilledOnce(Hook):
    """Sends one process (or what started it) a signal in some iteration, if nothing was sent before."""

    def __init__(self, rank=1, iteration=7, name='SIGKILL', parent=False):
        self.rank, self.iteration, self.number, self.parent = rank, iteration, signal.Signals[name], parent

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        note = Path(runner.work_dir, 'killed')
        if runner.iter == self.iteration and runner.rank == self.rank and not note.exists():
            note.touch()
            os.kill(os.getppid() if self.parent else os.getpid(), self.number)
            time.sleep(2 * self.parent)
