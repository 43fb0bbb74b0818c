import json
import tracemalloc

import numpy as np
import pytest

from mm_graft.datasets import tag_index
from mm_graft.datasets.hashtags import LabelSet
from mm_graft.datasets.tag_index import TagIndex, build_index, index_key, parse_json, parse_tsv

LABELS = LabelSet(('dog', 'cat', 'sea'), {'dog': (0, ), 'cat': (1, ), 'sea': (2, )})


def write(path, rows):
    path.write_text(''.join(row if isinstance(row, str) else json.dumps(row) + '\n' for row in rows))
    return path


@pytest.fixture
def captions(tmp_path):
    return write(tmp_path / 'captions.jsonl', [
        {'image': 'a.png', 'caption': 'a #dog ☀ at the #sea'},
        'no json\n',
        {'image': 'b.png', 'caption': 'nothing'},
        {'image': 'c.png', 'caption': '#love #love2'},
        {'image': 'd.png', 'caption': ['Cat', 'love']},
        {'image': '', 'caption': '#dog'},
        {'caption': '#dog'},
        '[1, 2]\n',
    ])


def test_rows_with_a_label_are_found_again_and_everything_is_counted(captions):
    index = build_index(captions, LABELS, parse_json, 'caption', 'image')
    with captions.open('rb') as file:
        images = []
        for place in index.places:
            file.seek(place)
            images.append(json.loads(file.readline())['image'])
    assert images == ['a.png', 'd.png']
    assert [index.row_labels(row).tolist() for row in range(2)] == [[0, 2], [1]]
    assert index.counts == {
        'rows': 8, 'broken': 4, 'untagged': 1, 'unlabelled': 1, 'kept': 2, 'tags': 6, 'unmapped': 3,
        'most_unmapped': [('love', 2), ('love2', 1)]}


def test_tab_separated_values_have_the_columns_that_are_named(tmp_path):
    path = tmp_path / 'captions.tsv'
    path.write_bytes(b'a #dog "quoted\ta.png\r\n#cat\tb.png\n#cat\n')
    index = build_index(path, LABELS, parse_tsv(('caption', 'image')), 'caption', 'image')
    assert index.labels.tolist() == [0, 1]
    assert index.counts['broken'] == 1
    assert parse_tsv(('caption', 'image'))('x\ty\r\n') == {'caption': 'x', 'image': 'y'}


def test_a_saved_index_is_the_same_and_is_mapped(captions, tmp_path):
    index = build_index(captions, LABELS, parse_json, 'caption', 'image')
    for _ in range(2):  # the second time it is there already
        index.save(tmp_path / 'index')
    loaded = TagIndex.load(tmp_path / 'index')
    assert isinstance(loaded.labels, np.memmap)
    for name in ('places', 'starts', 'labels'):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(index, name))
    assert loaded.counts['unmapped'] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ['captions.jsonl', 'index']


def test_memory_is_a_few_bytes_a_row(tmp_path):
    path = write(tmp_path / 'many.jsonl', [{'image': 'a.png', 'caption': '#dog ' + 'x' * 200}] * 20000)
    assert path.stat().st_size > 4e6
    tracemalloc.start()
    build_index(path, LABELS, parse_json, 'caption', 'image')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6  # 20 bytes a row in arrays that grow, twice while they are turned into numpy's


def test_unmapped_tags_are_remembered_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(tag_index, 'REMEMBERED', 2)
    rows = [{'image': 'a', 'caption': f'#love #x{number}a #dog'} for number in range(50)]
    index = build_index(write(tmp_path / 'c.jsonl', rows), LABELS, parse_json, 'caption', 'image')
    assert index.counts['unmapped'] == 100
    assert index.counts['most_unmapped'][0] == ('love', 50)
    assert len(index.counts['most_unmapped']) <= 5


def test_the_key_changes_with_the_file_the_labels_and_the_settings(captions, tmp_path):
    labels = write(tmp_path / 'labels.txt', ['dog\n'])
    key = index_key(captions, labels, 'caption')
    assert key == index_key(captions, labels, 'caption')
    assert key != index_key(captions, labels, 'text')
    write(labels, ['cat\n'])
    assert key != index_key(captions, labels, 'caption')
    write(labels, ['dog\n'])
    with captions.open('a') as file:
        file.write('\n')
    assert key != index_key(captions, labels, 'caption')
