from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.model import BaseModel
from mmengine.registry import TRANSFORMS
from mmengine.runner import Runner
from torch import distributed
from torch.utils.data import DataLoader

from mm_graft.engine.reliability import bad_images_hook
from mm_graft.engine.reliability.bad_images_hook import KEY, BadImagesHook, share_bad_files, tolerant_loaders
from mm_graft.process_group import leave_group
from tests.own_process import in_processes

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
    return next(tolerant_loaders(runner.train_dataloader.dataset)).bad_files


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
    found = SimpleNamespace(bad_files=object())
    inner = SimpleNamespace(pipeline=SimpleNamespace(transforms=[found, SimpleNamespace()]),
                            metainfo={}, full_init=lambda: None)
    repeat, concat = RepeatDataset.__new__(RepeatDataset), ConcatDataset.__new__(ConcatDataset)
    repeat.dataset, concat.datasets = inner, [inner, repeat]
    assert list(tolerant_loaders(concat)) == [found, found]
    assert list(tolerant_loaders(SimpleNamespace())) == []


def test_other_checkpoints_and_data_are_left_alone():
    runner = SimpleNamespace(_resume=True, train_dataloader=SimpleNamespace(dataset=[1, 2]))
    checkpoint = {}
    BadImagesHook().after_load_checkpoint(runner, checkpoint)
    BadImagesHook().before_save_checkpoint(runner, checkpoint)
    assert checkpoint == {KEY: []}


def with_pipeline(limit, *paths):
    loader = TRANSFORMS.build(LOADER | dict(max_bad=limit))
    for path in paths:
        loader.bad_files.add(path)
    return SimpleNamespace(pipeline=SimpleNamespace(transforms=[loader]))


def share(rank, store, folder):
    distributed.init_process_group('gloo', store=distributed.FileStore(store, 2), rank=rank, world_size=2)
    dataset = with_pipeline(3, 'both', f'of {rank}')
    share_bad_files(dataset)
    few, = tolerant_loaders(dataset)
    dataset = with_pipeline(2, 'both', f'of {rank}')
    try:
        share_bad_files(dataset)
        said = ''
    except RuntimeError as error:
        said = str(error)
    (folder / str(rank)).write_text(f'{len(few.bad_files)}: {said}')
    leave_group()


def test_files_are_counted_over_all_processes(tmp_path):
    in_processes(share, str(tmp_path / 'store'), tmp_path, processes=2)
    for rank in '01':
        assert (tmp_path / rank).read_text().startswith('3: 3 images cannot be used, over all processes')


@pytest.mark.parametrize(('iteration', 'batch', 'processes', 'shared'), [
    (4, 0, 2, True), (3, 0, 2, False), (3, 9, 2, True), (3, 8, 2, False), (4, 9, 1, False)])
def test_processes_meet_at_the_end_of_an_epoch_and_now_and_then(monkeypatch, iteration, batch, processes, shared):
    seen = []
    monkeypatch.setattr(bad_images_hook, 'share_bad_files', seen.append)
    monkeypatch.setattr(bad_images_hook, 'get_world_size', lambda: processes)
    runner = SimpleNamespace(iter=iteration, train_dataloader=DataLoader([0] * 10))
    BadImagesHook(interval=5).after_train_iter(runner, batch)
    assert seen == [runner.train_dataloader.dataset] * shared
