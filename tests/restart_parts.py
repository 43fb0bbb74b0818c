"""A run as small as can be, one of whose processes is killed the first time: parts of a config, found by import."""

import os
import signal
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch.utils.data import Dataset


@DATASETS.register_module()
class DrawnNumbers(Dataset):

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return {'inputs': torch.rand(4) + index}


@MODELS.register_module()
class SquaredLinear(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, inputs, mode='loss'):
        return {'loss': self.layer(inputs).square().mean()}


@HOOKS.register_module()
class KilledOnce(Hook):
    """Kills the second process in the seventh iteration, if nothing was killed before."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        note = Path(runner.work_dir, 'killed')
        if runner.iter == 7 and runner.rank == 1 and not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
