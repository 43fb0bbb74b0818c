from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import RepeatDataset
from mmengine.runner import EpochBasedTrainLoop
from mmpretrain.datasets import CustomDataset
from torch.utils.data import DataLoader, Dataset

from mm_graft.commands import run_checks
from mm_graft.commands.run_checks import BatchSizeHook, check_classes, check_data, check_labels


class Images(Dataset):
    """So many images, of so many classes."""

    def __init__(self, count, classes=0):
        self.count, self.metainfo = count, {'classes': tuple(range(classes))} if classes else {}

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.zeros(1)


class Warnings:
    """A logger that keeps what it is told."""

    def __init__(self):
        self.lines = []

    def warning(self, line):
        self.lines.append(line)


def runner(count=64, batch=64, classes=0, **cfg):
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    loop.dataloader = loader = DataLoader(Images(count, classes), batch, drop_last=True)
    optim = dict(optimizer=dict(type='AdamW', lr=1e-3))
    return SimpleNamespace(model=None, train_dataloader=loader, train_loop=loop, val_loop=None, logger=Warnings(),
                           cfg=Config(dict(optim_wrapper=optim, **cfg)))


def warnings_of(run):
    BatchSizeHook().before_train(run)
    return run.logger.lines


def test_a_rate_for_another_batch_is_told_with_both_sizes_the_rate_and_the_flag(monkeypatch):
    monkeypatch.setattr(run_checks, 'get_world_size', lambda: 2)
    line, = warnings_of(runner(auto_scale_lr=dict(base_batch_size=4096)))
    parts = '0.001', '4096', '128', '64 × 2 processes × 1 iterations', '--auto-scale-lr', '3.125e-05'
    assert [part for part in parts if part not in line] == []


def test_accumulated_iterations_belong_to_the_batch():
    run = runner(auto_scale_lr=dict(base_batch_size=256))
    run.cfg.optim_wrapper.accumulative_counts = 4
    assert warnings_of(run) == []
    run.cfg.optim_wrapper.accumulative_counts = 2
    line, = warnings_of(run)
    assert 'here they have 128 (64 × 1 processes × 2 iterations a step)' in line


@pytest.mark.parametrize('scaling', [None, {}, dict(base_batch_size=64), dict(base_batch_size=4096, enable=True)])
def test_a_rate_that_fits_or_is_scaled_is_not_spoken_of(scaling):
    assert warnings_of(runner(auto_scale_lr=scaling)) == []


def test_several_optimizers_have_no_one_rate_to_speak_of():
    run = runner(auto_scale_lr=dict(base_batch_size=4096))
    run.cfg.optim_wrapper = dict(one=dict(optimizer=dict(lr=1e-3)), constructor='Two')
    assert warnings_of(run) == []


@pytest.mark.parametrize(('count', 'processes', 'fitting'), [(60, 1, 32), (60, 8, 4), (3, 1, 2), (2, 4, None)])
def test_fewer_images_than_one_batch_are_counted_and_a_fitting_batch_is_named(monkeypatch, count, processes, fitting):
    monkeypatch.setattr(run_checks, 'get_world_size', lambda: processes)
    remedy = f'train_dataloader.batch_size={fitting}' if fitting else 'more images'
    with pytest.raises(ValueError, match=rf'{count} images are fewer than one batch of 256.*{remedy}$'):
        check_data(runner(count, 256))


def test_one_batch_of_images_is_enough():
    check_data(runner(256, 256))


MODEL = dict(head=dict(num_classes=10))


def test_more_classes_than_the_classifier_has_are_counted_and_the_options_named():
    run = runner(classes=12, model=MODEL, data_preprocessor=dict(num_classes=10))
    with pytest.raises(ValueError, match=r'12 classes.*model\.head\.num_classes=12 data_preprocessor\.num_classes=12$'):
        check_data(run)


def test_a_preprocessor_with_fewer_classes_than_the_images_is_refused_too():
    cfg = Config(dict(model=dict(head=dict(num_classes=12), data_preprocessor=dict(num_classes=10))))
    with pytest.raises(ValueError, match=r'model\.data_preprocessor\.num_classes=10'):
        check_classes(cfg, {'classes': tuple(range(12))})


@pytest.mark.parametrize('classes', [0, 5, 10])
def test_images_without_classes_or_with_no_more_than_the_classifier_pass(classes):
    check_data(runner(classes=classes, model=MODEL))
    check_data(runner(classes=classes, model=dict(backbone=dict(type='ViT'))))


def listed(folder, *labels, **kwargs):
    (folder / 'list.txt').write_text(''.join(f'{index}.png {label}\n' for index, label in enumerate(labels)))
    return CustomDataset(data_root=str(folder), ann_file='list.txt', pipeline=[], **kwargs)


@pytest.mark.parametrize('labels', [(0, 3), (-1, 2)])
def test_class_numbers_of_a_list_for_which_the_classifier_has_no_place_are_named(tmp_path, labels):
    cfg = Config(dict(model=dict(head=dict(num_classes=3)), data_preprocessor=dict(num_classes=4)))
    message = rf'train: .*list\.txt numbers classes from {labels[0]} to {labels[1]}, but model\.head\.num_classes=3'
    with pytest.raises(ValueError, match=message):
        check_labels(cfg, 'train', listed(tmp_path, *labels))
    check_labels(cfg, 'train', listed(tmp_path, 0, 2))
    check_labels(Config({}), 'train', listed(tmp_path, *labels))  # nothing that classifies


def test_a_classifier_needs_labels(tmp_path):
    without = CustomDataset(data_root=str(tmp_path), ann_file='', with_label=False, lazy_init=True, pipeline=[])
    with pytest.raises(ValueError, match=r'^train gives no labels .*train\.with_label=True'):
        check_labels(Config(dict(model=dict(head=dict(num_classes=3)))), 'train', without)
    check_labels(Config(dict(model=dict(head=dict(in_channels=3)))), 'train', without)


def test_lists_of_all_loaders_are_looked_at_also_in_wrappers(tmp_path):
    run = runner(model=dict(head=dict(num_classes=3)))
    run.val_loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=RepeatDataset(listed(tmp_path, 0, 3), 2)))
    with pytest.raises(ValueError, match=r'val_dataloader\.dataset\.dataset: .*from 0 to 3'):
        check_data(run)
