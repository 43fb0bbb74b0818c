from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mm_graft.engine.reliability.bad_images_hook import KEY, BadImagesHook, bad_files_of

LOADER = dict(type='mm_graft.TolerantLoadImageFromFile', max_bad=1)


class Net(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='loss', **kwargs):
        return {'loss': self.weight.sum()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for index in range(6):
        cv2.imwrite(str(tmp_path / f'images/{index}.png'), np.zeros((8, 8, 3), np.uint8))
    return tmp_path


def train(folder, epochs, resume=False, load_from=None):
    dataset = dict(type='mmpretrain.CustomDataset', data_root=str(folder / 'images'), with_label=False,
                   pipeline=[LOADER, dict(type='mmpretrain.PackInputs')])
    runner = Runner(
        model=Net(), work_dir=str(folder / 'work'), experiment_name=f'bad_{folder.name}_{epochs}_{load_from is None}',
        train_dataloader=dict(batch_size=2, num_workers=1, dataset=dataset,
                              sampler=dict(type='DefaultSampler', shuffle=False)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), resume=resume, load_from=load_from,
        train_cfg=dict(by_epoch=True, max_epochs=epochs), custom_hooks=[dict(type='mm_graft.BadImagesHook')],
        default_scope='mmpretrain', log_level='ERROR')
    runner.train()
    return next(bad_files_of(runner.train_dataloader.dataset))


def test_the_limit_is_on_files_through_epochs_workers_and_resumes(folder):
    (folder / 'images/2.png').write_bytes(b'')
    assert len(train(folder, 3)) == 1
    assert len(torch.load(folder / 'work/epoch_3.pth', weights_only=False)[KEY]) == 1
    assert len(train(folder, 5, resume=True)) == 1  # met again
    cv2.imwrite(str(folder / 'images/2.png'), np.zeros((8, 8, 3), np.uint8))  # repaired, but the next one is the second
    (folder / 'images/4.png').write_bytes(b'')
    with pytest.raises(RuntimeError, match='bad image 2 of at most 1'):
        train(folder, 7, resume=True)
    assert len(train(folder, 2, load_from=str(folder / 'work/epoch_5.pth'))) == 1  # a new run counts anew


def test_sets_are_found_inside_wrappers():
    found = object()
    inner = SimpleNamespace(pipeline=SimpleNamespace(transforms=[SimpleNamespace(bad_files=found), SimpleNamespace()]),
                            metainfo={}, full_init=lambda: None)
    repeat, concat = RepeatDataset.__new__(RepeatDataset), ConcatDataset.__new__(ConcatDataset)
    repeat.dataset, concat.datasets = inner, [inner, repeat]
    assert list(bad_files_of(concat)) == [found, found]
    assert list(bad_files_of(SimpleNamespace())) == []


def test_other_checkpoints_and_data_are_left_alone():
    runner = SimpleNamespace(_resume=True, train_dataloader=SimpleNamespace(dataset=[1, 2]))
    checkpoint = {}
    BadImagesHook().after_load_checkpoint(runner, checkpoint)
    BadImagesHook().before_save_checkpoint(runner, checkpoint)
    assert checkpoint == {KEY: []}
