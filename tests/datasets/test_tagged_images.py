import json
import os
import pickle

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from mm_graft.datasets.tag_index import TagIndex
from mm_graft.files import open_regular
from tests.said import said_by

ROWS = [('a.png', '#dog #love'), ('sub/b.png', '#retriever and #sea'), ('c.png', 'no tag'), ('d.png', '#sea #dog')]


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'images' / 'sub').mkdir(parents=True)
    for number, (name, _) in enumerate(ROWS):
        cv2.imwrite(str(tmp_path / 'images' / name), np.full((8, 8, 3), 10 * number, np.uint8))
    rows = [json.dumps({'image': name, 'caption': caption}) for name, caption in ROWS]
    (tmp_path / 'captions.jsonl').write_text('\n'.join(rows) + '\n')
    (tmp_path / 'captions.tsv').write_text('\n'.join('\t'.join(row) for row in ROWS))
    (tmp_path / 'synsets.txt').write_text('n1 dog, retriever\nn2 sea\n')
    (tmp_path / 'tags.txt').write_text('sea\ndog\n')
    return tmp_path


def build(root, **kwargs):
    settings = {'ann_file': 'captions.jsonl', 'synsets': 'synsets.txt'} | kwargs
    return DATASETS.build(dict(type='mm_graft.TaggedImages', data_root=str(root), data_prefix='images', **settings))


def test_an_image_comes_with_all_its_labels(root):
    data = build(root, pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    assert len(data) == 3
    assert data.metainfo['classes'] == ('n1', 'n2')
    assert data[1]['inputs'].flatten()[0] == 10
    assert data[1]['data_samples'].gt_label.tolist() == [0, 1]
    assert [data.get_cat_ids(index) for index in range(3)] == [[0], [0, 1], [0, 1]]
    assert data.get_data_info(-1)['sample_idx'] == 2
    assert data.counts['unmapped'] == 1


def test_tab_separated_values_and_a_plain_vocabulary_do_as_well(root):
    data = build(root, ann_file='captions.tsv', synsets=None, vocabulary='tags.txt')
    assert [data.get_cat_ids(index) for index in range(3)] == [[1], [0], [0, 1]]
    assert data.get_data_info(1)['img_path'] == str(root / 'images' / 'sub' / 'b.png')


@pytest.mark.parametrize(('indices', 'chosen'), [(None, [0, 1, 2]), (2, [0, 1]), (9, [0, 1, 2]), ([2, 0], [2, 0])])
def test_a_subset_keeps_its_labels_and_images(root, indices, chosen):
    data, whole = build(root, indices=indices), build(root)
    assert [data.get_data_info(i)['img_path'] for i in range(len(data))] == [
        whole.get_data_info(row)['img_path'] for row in chosen]
    assert [data.get_cat_ids(i) for i in range(len(data))] == [whole.get_cat_ids(row) for row in chosen]
    labels, starts = data.label_rows()
    rows = [labels[starts[i]:starts[i + 1]].tolist() for i in range(len(data))]
    assert rows == [data.get_cat_ids(i) for i in range(len(data))]
    assert len(starts) == len(chosen) + 1


@pytest.mark.parametrize('indices', [0, -1, [], [-1], [0, 3], [0.5]])
def test_rows_that_are_not_there_are_refused(root, indices):
    with pytest.raises(ValueError, match=r'indices=.*3 rows of .*captions\.jsonl have a label; give.*from 0 to 2'):
        build(root, indices=indices)


@pytest.mark.parametrize('name', ['captions.jsonl', 'captions.tsv'])
def test_a_mark_at_the_beginning_of_the_files_is_no_part_of_them(root, name):
    marked = b'\xef\xbb\xbf'
    for file in (name, 'tags.txt'):
        (root / file).write_bytes(marked + (root / file).read_bytes())
    data = build(root, ann_file=name, synsets=None, vocabulary='tags.txt')
    assert data.metainfo['classes'] == ('sea', 'dog')
    assert data.get_data_info(0)['img_path'] == str(root / 'images' / 'a.png')
    assert len(data) == 3
    assert data.counts['broken'] == 0


def test_the_file_is_read_through_once(root, monkeypatch):
    build(root)
    monkeypatch.setattr('mm_graft.datasets.tagged_images.build_index', None)
    assert len(build(root)) == 3
    (root / 'synsets.txt').write_text('n1 dog, retriever\nn2 sea, ocean\n')
    with pytest.raises(TypeError):
        build(root)


@pytest.mark.parametrize('change', [
    dict(text_key='caption2'), dict(image_key='file'), dict(columns=('file', 'caption')),
    dict(synsets=None, vocabulary='synsets.txt')])
def test_other_settings_have_an_index_of_their_own(root, monkeypatch, change):
    rows = [{'image': 'a.png', 'file': 'd.png', 'caption': '#dog #n2sea', 'caption2': '#sea'}]
    (root / 'captions.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    build(root)
    monkeypatch.setattr('mm_graft.datasets.tagged_images.build_index', None)
    with pytest.raises(TypeError):
        build(root, **change)


def test_another_process_takes_the_index_that_the_main_one_has_made(root, monkeypatch):
    calls, load = [], TagIndex.load
    monkeypatch.setattr(TagIndex, 'load', lambda *args: calls.append(1) or load(*args))
    main = build(root)
    assert len(calls) == 1
    monkeypatch.setattr('mm_graft.datasets.tagged_images.is_main_process', lambda: False)
    monkeypatch.setattr('mm_graft.datasets.tagged_images.build_index', None)
    data = build(root)
    assert [data.get_cat_ids(index) for index in range(3)] == [main.get_cat_ids(index) for index in range(3)]
    assert len(calls) == 2


def test_a_process_opens_the_file_once(root, monkeypatch):
    opened = []
    monkeypatch.setattr('mm_graft.datasets.tagged_images.open_regular',
                        lambda path: opened.append(path) or open_regular(path))
    data = build(root)
    paths = [data.get_data_info(index)['img_path'] for index in (0, 2, 1)]
    assert [os.path.basename(path) for path in paths] == ['a.png', 'd.png', 'b.png']
    assert len(opened) == 1
    monkeypatch.setattr(os, 'getpid', lambda: -1)  # a worker that was forked must not share the place in the file
    data.get_data_info(0)
    assert len(opened) == 2


def test_an_index_that_is_damaged_is_made_anew_with_one_line(root, monkeypatch):
    build(root)
    said = said_by('mm_graft.datasets.tagged_images', monkeypatch)
    labels, = root.glob('*.index-*/labels.npy')
    np.save(labels, np.load(labels)[::-1].copy())
    assert [build(root).get_cat_ids(index) for index in range(3)] == [[0], [0, 1], [0, 1]]
    assert [line for line in said if 'rebuilt' in line and 'not as it was written' in line]
    said.clear()
    assert len(build(root)) == 3
    assert not [line for line in said if 'rebuilt' in line]


def test_captions_that_changed_at_the_same_size_and_time_have_their_own_labels(root):
    captions = root / 'captions.jsonl'
    status = captions.stat()
    assert build(root).get_cat_ids(0) == [0]
    captions.write_bytes(captions.read_bytes().replace(b'#dog #love', b'#sea #love'))
    os.utime(captions, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert build(root).get_cat_ids(0) == [1]


def test_rows_that_cannot_be_used_are_named_in_the_log(root, monkeypatch):
    said = said_by('mm_graft.datasets.tagged_images', monkeypatch)
    with (root / 'captions.jsonl').open('a') as file:
        file.write('{"image": 5, "caption": "#dog"}\n')
    assert len(build(root)) == 3
    assert "'broken': 1" in said[0]
    assert 'first broken rows: line 5: the image 5 is no path' in said[0]
    assert "most frequent tags that mean no label: [['love', 1]]" in said[0]
    assert 'first_broken' not in said[0]  # once is enough


def test_the_index_can_lie_elsewhere(root, tmp_path_factory):
    cache = tmp_path_factory.mktemp('cache')
    build(root, cache_dir=str(cache))
    assert [path.name.split('.index-')[0] for path in cache.iterdir()] == ['captions.jsonl']
    assert not list(root.glob('*.index-*'))


def test_workers_read_the_same_images(root):
    def images(workers):
        pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
        data = build(root, pipeline=pipeline)
        data[0]  # opens the file before the workers are forked
        loader = Runner.build_dataloader(dict(
            batch_size=1, num_workers=workers, dataset=data, sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate')))
        return [(int(batch['inputs'].flatten()[0]), batch['data_samples'][0].gt_label.tolist()) for batch in loader]

    assert images(0) == images(2) == [(0, [0]), (10, [0, 1]), (30, [0, 1])]


def test_it_survives_being_sent_to_another_process(root):
    data = build(root)
    data.get_data_info(0)
    assert pickle.loads(pickle.dumps(data)).get_data_info(1) == data.get_data_info(1)


def test_what_cannot_work_is_refused(root):
    with pytest.raises(ValueError, match='give one of them'):
        build(root, vocabulary='tags.txt')
    with pytest.raises(ValueError, match='give one of them'):
        build(root, synsets=None)
    with pytest.raises(ValueError, match='no row'):
        build(root, text_key='text')
