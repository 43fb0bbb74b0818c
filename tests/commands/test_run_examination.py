import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mm_graft.commands.run_examination import (
    build_data_sets,
    describe_batches,
    describe_classes,
    describe_images,
    describe_warmup,
)


@pytest.fixture
def sets(tmp_path):
    """A function that builds sets for training and validation, with these classes."""

    def build(train='ab', val='ab'):
        for split, names in (('train', train), ('val', val)):
            for name in names:
                (tmp_path / split / name).mkdir(parents=True)
                Image.new('RGB', (8, 8)).save(tmp_path / split / name / '1.png')
        return build_data_sets(Config({
            f'{split}_dataloader': dict(dataset=dict(type='mm_graft.ImageFolder', data_root=str(tmp_path / split)))
            for split in ('train', 'val')}))

    return build


@pytest.mark.parametrize(('batch', 'processes', 'told'), [
    (4, 1, '9 images, 2 batches of 4 an epoch'), (9, 1, '9 images, 1 batches of 9 an epoch'),
    (2, 4, '9 images, 1 batches of 8 an epoch')])
def test_an_epoch_has_whole_batches_of_all_processes(monkeypatch, batch, processes, told):
    monkeypatch.setenv('WORLD_SIZE', str(processes))
    assert describe_batches(Config(dict(train_dataloader=dict(batch_size=batch), launcher='pytorch')), 9) == told


def test_a_batch_that_is_larger_than_the_folder_is_refused_with_one_that_fits(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    cfg = Config(dict(train_dataloader=dict(batch_size=5), launcher='pytorch'))
    with pytest.raises(ValueError, match=r'the batch has 10 images, but there are 9; .*batch_size=4 or smaller'):
        describe_batches(cfg, 9)


def run(schedule, **loop):
    return Config(dict(train_cfg=loop, param_scheduler=schedule))


@pytest.mark.parametrize(('cfg', 'told'), [
    (run(dict(type='W', warmup=4), max_epochs=5), '4 of 5 epochs'),
    (run([dict(type='LinearLR', end=4, by_epoch=False), dict(type='PolyLR')], max_iters=5), '4 of 5 iterations'),
    (run([dict(type='LinearLR', end=400, by_epoch=False)], max_epochs=5), 'none in 5 epochs'),  # of unknown length
    (run(dict(type='CosineAnnealingLR', end=5), max_epochs=5), 'none in 5 epochs')])
def test_a_warm_up_is_shorter_than_the_run(cfg, told):
    assert describe_warmup(cfg) == told


@pytest.mark.parametrize('cfg', [run(dict(type='W', warmup=5), max_epochs=5),
                                 run([dict(type='LinearLR', end=6, by_epoch=False)], max_iters=5)])
def test_a_warm_up_as_long_as_the_run_is_refused(cfg):
    with pytest.raises(ValueError, match='does not end before the run of 5'):
        describe_warmup(cfg)


def test_classes_are_named_and_must_agree(sets):
    told = describe_classes(sets())
    assert told == 'train_dataloader: 2 (a, b); val_dataloader: 2 (a, b)'


def test_other_classes_are_refused(sets):
    with pytest.raises(ValueError, match=r'only in val_dataloader\.dataset: c'):
        describe_classes(sets('ab', 'abc'))


def test_arrays_are_looked_at_as_training_loads_them(tmp_path):
    np.save(tmp_path / '1.npy', np.zeros((8, 8, 5), np.uint8))
    loading = [dict(type='mm_graft.LoadChannels', channels=5)]
    data = dict(type='mm_graft.ImageFolder', data_root=str(tmp_path), with_label=False, extensions=['.npy'])
    cfg = Config(dict(train_dataloader=dict(dataset=dict(**data, pipeline=loading))))
    assert describe_images(build_data_sets(cfg)['train_dataloader']) == '1 of 1 looked at, all can be read'
    np.save(tmp_path / '2.npy', np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(ValueError, match=r'1 of 2 .*2\.npy: it has 4 channels instead of 5'):
        describe_images(build_data_sets(cfg)['train_dataloader'])


def test_images_that_cannot_be_read_are_counted_and_the_first_is_named(sets, tmp_path):
    training = sets()['train_dataloader']
    assert describe_images(training) == '2 of 2 looked at, all can be read'
    (tmp_path / 'train' / 'b' / '1.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'1 of 2 sampled images cannot be read; the first is .*b/1\.png'):
        describe_images(training)
