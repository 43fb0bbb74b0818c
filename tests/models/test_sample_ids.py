import subprocess
import sys
from datetime import timedelta

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import distributed

from mm_graft.models.sample_ids import check_ids, path_number, sample_ids, sample_labels
from mm_graft.process_group import leave_group
from tests.own_process import SECONDS, in_processes


def sample(index=None, path=None, label=None):
    made = DataSample(metainfo={key: value for key, value in (('sample_idx', index), ('img_path', path))
                                if value is not None})
    return made if label is None else made.set_gt_label(label)


def test_ids_are_the_places_in_the_data_set():
    assert sample_ids([sample(7), sample(0), sample(3)]).tolist() == [7, 0, 3]


@pytest.mark.parametrize('samples', [None, [], [sample(1), sample()]])
def test_samples_without_ids_are_refused(samples):
    with pytest.raises(ValueError, match=r'the samples have no ids.*sample_idx'):
        sample_ids(samples)


@pytest.mark.parametrize('samples', [[sample(1), sample(1)], [sample(1, 'a.png'), sample(1, 'b.png')],
                                     [sample(1, 'a.png'), sample(1)]])
def test_two_images_with_one_id_are_refused(samples):
    with pytest.raises(ValueError, match=r'have the id 1.*ConcatDataset'):
        sample_ids(samples)


def test_the_same_image_may_come_twice():
    assert sample_ids([sample(1, 'a.png'), sample(2, 'b.png'), sample(1, 'a.png')]).tolist() == [1, 2, 1]


def test_labels_are_there_if_every_sample_has_one():
    assert sample_labels([sample(0, label=4), sample(1, label=2)]).tolist() == [4, 2]
    assert sample_labels([sample(0, label=4), sample(1)]) is None
    assert sample_labels([sample(0, label=torch.tensor([1, 2])), sample(1, label=1)]) is None


def test_both_come_to_the_device_that_asks():
    assert sample_ids([sample(0, label=4)], 'meta').device.type == 'meta'
    assert sample_labels([sample(0, label=4)], 'meta').device.type == 'meta'


def test_a_path_has_the_same_number_in_every_process():
    code = "from mm_graft.models.sample_ids import path_number; print(path_number('a/b.png'))"
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, capture_output=True, text=True,
                          timeout=SECONDS)
    assert int(done.stdout.split()[-1]) == path_number('a/b.png') != path_number('a/c.png')
    assert path_number(None) == 0


def test_an_image_of_another_process_is_named_so():
    here, there = path_number('a.png'), path_number('b.png')
    check_ids([(3, here), (4, there), (3, here)], {here: 'a.png'})
    with pytest.raises(ValueError, match=r'have the id 3 \(a.png, an image of another process\)'):
        check_ids([(3, here), (3, there)], {here: 'a.png'})


def clash(rank, folder):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2,
                                   timeout=timedelta(seconds=SECONDS))
    said = []
    for batch in ([sample(2 * rank, 'a.png'), sample(2 * rank + 1, 'b.png')],  # all differ
                  [sample(rank, f'{rank}.png'), sample(2, 'same.png')],  # one image twice
                  [sample(7, f'{rank}.png'), sample(rank, 'c.png')],  # one id for two images, one on each process
                  [sample(rank, 'a.png'), sample(None if rank else 5, 'b.png')]):  # one process has a sample without
        try:
            said.append(sample_ids(batch).tolist())
        except ValueError as error:
            said.append(str(error)[:50])
    torch.save(said, f'{folder}/{rank}.pth')
    leave_group()


def test_ids_that_clash_across_processes_are_an_error_on_all_of_them(tmp_path):
    in_processes(clash, str(tmp_path), processes=2)
    differ, twice, two_images, without = zip(*(torch.load(tmp_path / f'{rank}.pth') for rank in range(2)))
    assert differ == ([0, 1], [2, 3])
    assert twice == ([0, 2], [1, 2])
    assert two_images == ('two samples of a batch have the id 7 (0.png, an im',
                          'two samples of a batch have the id 7 (an image of ')
    assert all('have no ids' in message for message in without)
