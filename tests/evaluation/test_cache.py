import json
import os

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, init_default_scope

from mm_graft.evaluation.cache import (
    cache_key,
    load_features,
    load_result,
    save_features,
    save_result,
    sha256_of_dataset,
)
from mm_graft.evaluation.reading import BadImage
from mm_graft.files import write_arrays
from tests.said import said_by

BAD = [BadImage(2, 'b.png', 'broken')]


def save(folder, features=None):
    features = torch.arange(12.).reshape(4, 3) if features is None else features
    save_features(folder, features, torch.tensor([1, 0, 1, 0]), torch.tensor([0, 1, 3, 4]), BAD)
    return folder


@pytest.fixture
def said(monkeypatch):
    return said_by('mm_graft.evaluation.cache', monkeypatch)


def test_features_come_back_as_they_were_saved(tmp_path, said):
    assert load_features(tmp_path / 'key', 5) is None
    kept = load_features(save(tmp_path / 'deep/key'), 5)
    assert torch.equal(kept.features, torch.arange(12.).reshape(4, 3))
    assert (kept.labels.tolist(), kept.indices.tolist(), kept.bad) == ([1, 0, 1, 0], [0, 1, 3, 4], BAD)
    assert kept.from_cache
    assert said == []
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['key']
    other = load_features(save(tmp_path / 'other', torch.ones(4, 3)), 5)
    again = load_features(save(tmp_path / 'other', torch.arange(12.).reshape(4, 3)), 5)  # takes its place
    assert kept.digest == again.digest != other.digest


def damage_array(change):
    def damage(folder, name):
        array = change(np.array(np.load(folder / f'{name}.npy')))
        (folder / f'{name}.npy').unlink()
        np.save(folder / f'{name}.npy', array)
    return damage


@pytest.mark.parametrize(('name', 'damage'), [
    ('features', damage_array(lambda array: np.full_like(array, np.nan))),
    ('features', damage_array(lambda array: array[:3])), ('features', damage_array(lambda array: array[::-1])),
    ('labels', damage_array(lambda array: array[::-1])), ('indices', damage_array(lambda array: array + 1)),
    ('features', lambda folder, name: (folder / f'{name}.npy').write_bytes(b'')),
    ('labels', lambda folder, name: (folder / f'{name}.npy').unlink()),
    ('facts', lambda folder, name: (folder / 'facts.json').write_text('{"bad": [], ')),
    ('facts', lambda folder, name: (folder / 'facts.json').write_text('[]')),
    ('facts', lambda folder, name: (folder / 'facts.json').write_text(json.dumps(
        {**json.loads((folder / 'facts.json').read_text()), 'bad': []}))),
    ('facts', lambda folder, name: (folder / 'facts.json').write_text(json.dumps(
        {**json.loads((folder / 'facts.json').read_text()), 'bad': 5}))),
    ('facts', lambda folder, name: (folder / 'facts.json').unlink())])
def test_features_that_are_not_as_they_were_written_are_named_and_not_used(tmp_path, said, name, damage):
    damage(save(tmp_path / 'key'), name)
    assert load_features(tmp_path / 'key', 5) is None
    line, = said
    assert f'extracting the features cached in {tmp_path / "key"} again: ' in line


@pytest.mark.parametrize('num_images', [4, 6])
def test_features_of_another_data_set_are_not_used(tmp_path, said, num_images):
    assert load_features(save(tmp_path / 'key'), num_images) is None
    assert f'not those of {num_images} images' in said[0]


@pytest.mark.parametrize('change', [
    {'labels': np.array([1, 0, -1, 0])}, {'indices': np.array([0, 1, 3, 5])}, {'indices': np.array([-1, 1, 3, 4])},
    {'labels': np.array([1, 0, 1])}, {'indices': np.array([0, 1, 3])}, {'features': np.zeros((3, 3), np.float32)},
    {'features': np.zeros(4, np.float32)}, {'features': np.full((4, 3), np.inf, np.float32)}], ids=str)
def test_arrays_that_are_whole_but_no_features_of_the_set_are_not_used(tmp_path, said, change):
    arrays = {'features': np.ones((4, 3), np.float32), 'labels': np.array([1, 0, 1, 0]),
              'indices': np.array([0, 1, 3, 4])}
    for name, content in (('right', arrays), ('wrong', arrays | change)):
        write_arrays(tmp_path / name, content, {'bad': [list(BAD[0])]})
    assert load_features(tmp_path / 'right', 5) is not None
    assert load_features(tmp_path / 'wrong', 5) is None
    assert 'not those of 5 images' in said[0]


def test_what_is_done_to_loaded_features_does_not_reach_the_disk(tmp_path):
    load_features(save(tmp_path / 'key'), 5).features.zero_()
    assert torch.equal(load_features(tmp_path / 'key', 5).features, torch.arange(12.).reshape(4, 3))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_features_that_are_no_numbers_are_not_kept(tmp_path, value):
    features = torch.ones(4, 3)
    features[2, 1] = value
    with pytest.raises(ValueError, match='1 of 4 images are NaN or infinite; is the checkpoint corrupt'):
        save(tmp_path / 'key', features)
    assert not (tmp_path / 'key').exists()


def test_a_score_comes_back_unless_it_was_changed(tmp_path, said):
    path = tmp_path / 'results' / 'a.json'
    assert load_result(path) is None
    save_result(path, {'top1': 12.5, 'by_k': {'20': 1}})
    assert load_result(path) == {'top1': 12.5, 'by_k': {'20': 1}}
    assert said == []
    for text in (path.read_text().replace('12.5', '99.0'), path.read_text()[:-9], '{"top1": 3}', '[]'):
        path.write_text(text)
        assert load_result(path) is None
    assert len(said) == 4
    assert all(f'computing the score cached in {path} again' in line for line in said)


def build(folder, **options):
    init_default_scope('mmpretrain')
    return DATASETS.build(dict(type='CustomDataset', data_root=str(folder), pipeline=[], **options))


def test_key_of_the_data_follows_names_labels_and_content(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '0.png'), np.full((8, 8, 3), 3, np.uint8))
    before = sha256_of_dataset(build(tmp_path))
    assert sha256_of_dataset(build(tmp_path)) == before
    assert sha256_of_dataset(build(tmp_path, metainfo={'classes': ['x', 'y']})) != before
    cv2.imwrite(str(tmp_path / 'a' / '0.png'), np.full((9, 9, 3), 77, np.uint8))
    assert sha256_of_dataset(build(tmp_path)) != before

    before, times = sha256_of_dataset(build(tmp_path)), os.stat(tmp_path / 'a' / '0.png')
    (tmp_path / 'a' / '0.png').write_bytes((tmp_path / 'a' / '0.png').read_bytes()[:-1] + b'x')
    os.utime(tmp_path / 'a' / '0.png', ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sha256_of_dataset(build(tmp_path)) != before

    class InMemory(list):
        def get_data_info(self, index):
            return {'img': self[index], 'gt_label': self.label, 'img_path': self.path}

    def in_memory(image, label=0, path=None):
        dataset = InMemory([image])
        dataset.label, dataset.path = label, path
        return sha256_of_dataset(dataset)

    assert len({in_memory(np.ones(3)), in_memory(np.zeros(3)), in_memory(np.ones(3), label=1),
                in_memory(np.ones(3), path='gone.png'), in_memory(np.zeros(3), path='gone.png')}) == 5
    assert in_memory(np.zeros((4, 4))[::2]) == in_memory(np.zeros((2, 4)))
    assert sha256_of_dataset(InMemory()) == sha256_of_dataset(InMemory())


def test_key_follows_every_part():
    assert cache_key(a=1, b='x') == cache_key(b='x', a=1)
    assert len({cache_key(a=1, b='x'), cache_key(a=2, b='x'), cache_key(a=1, b='y')}) == 3
