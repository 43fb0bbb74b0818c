import json
import os
import tracemalloc

import numpy as np
import pytest

from mm_graft.datasets import tag_index
from mm_graft.datasets.hashtags import LabelSet
from mm_graft.datasets.tag_index import TagIndex, build_index, index_key, parse_json_row, parse_tsv

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
    index = build_index(captions, LABELS, parse_json_row, 'caption', 'image')
    with captions.open('rb') as file:
        images = []
        for place in index.places:
            file.seek(place)
            images.append(json.loads(file.readline())['image'])
    assert images == ['a.png', 'd.png']
    assert [index.row_labels(row).tolist() for row in range(2)] == [[0, 2], [1]]
    assert index.counts == {
        'rows': 8, 'broken': 4, 'untagged': 1, 'unlabeled': 1, 'kept': 2, 'tags': 6, 'unmapped': 3,
        'most_unmapped': [('love', 2), ('love2', 1)], 'first_broken': [
            'line 2: Expecting value: line 1 column 1 (char 0)', "line 6: the image '' is no path",
            "line 7: there is no 'image'", 'line 8: a row of JSON lines must be an object']}


def test_tab_separated_values_have_the_columns_that_are_named(tmp_path):
    path = tmp_path / 'captions.tsv'
    path.write_bytes(b'a #dog "quoted\ta.png\r\n#cat\tb.png\n#cat\n')
    index = build_index(path, LABELS, parse_tsv(('caption', 'image')), 'caption', 'image')
    assert index.labels.tolist() == [0, 1]
    assert index.counts['broken'] == 1
    assert parse_tsv(('caption', 'image'))('x\ty\r\n') == {'caption': 'x', 'image': 'y'}


def test_a_saved_index_is_the_same_and_is_mapped(captions, tmp_path):
    index = build_index(captions, LABELS, parse_json_row, 'caption', 'image')
    for _ in range(2):  # the second time it is there already
        index.save(tmp_path / 'index')
    loaded = TagIndex.load(tmp_path / 'index', 3)
    assert isinstance(loaded.labels, np.memmap)
    for name in ('places', 'starts', 'labels'):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(index, name))
    assert loaded.counts['unmapped'] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ['captions.jsonl', 'index']


def test_memory_is_a_few_bytes_a_row(tmp_path):
    path = write(tmp_path / 'many.jsonl', [{'image': 'a.png', 'caption': '#dog ' + 'x' * 200}] * 20000)
    assert path.stat().st_size > 4e6
    build_index(write(tmp_path / 'one.jsonl', [{'image': 'a.png', 'caption': '#dog'}]), LABELS, parse_json_row,
                'caption', 'image')  # imports, which take more memory than the rows
    peaks = []
    for _ in range(3):  # threads that other tests left behind are traced too
        tracemalloc.start()
        build_index(path, LABELS, parse_json_row, 'caption', 'image')
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert min(peaks) < 2e6  # 20 bytes a row in arrays that grow, twice while they are turned into numpy's


def test_unmapped_tags_are_remembered_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(tag_index, 'REMEMBERED', 2)
    rows = [{'image': 'a', 'caption': f'#love #x{number}a #dog'} for number in range(50)]
    index = build_index(write(tmp_path / 'c.jsonl', rows), LABELS, parse_json_row, 'caption', 'image')
    assert index.counts['unmapped'] == 100
    assert index.counts['most_unmapped'][0] == ('love', 50)
    assert len(index.counts['most_unmapped']) <= 5


@pytest.mark.parametrize('row', [
    {'image': 5, 'caption': '#dog'}, {'image': '/dev/zero', 'caption': '#dog'},
    {'image': 'a/../../b', 'caption': '#dog'}, {'image': 'a', 'caption': 7},
    {'image': 'a', 'caption': ['dog', 7]}, {'image': 'a\0b', 'caption': '#dog'},
    '{"image": "a", "caption": ' + '[' * 10000 + ']' * 10000 + '}\n', b'\xff\xfe\n'.decode('latin-1')])
def test_rows_that_could_not_be_loaded_are_counted_and_named(tmp_path, row):
    rows = [{'image': 'a.png', 'caption': '#dog'}, row, {'image': 'b/..c.png', 'caption': '#cat'}]
    index = build_index(write(tmp_path / 'c.jsonl', rows), LABELS, parse_json_row, 'caption', 'image')
    assert index.labels.tolist() == [0, 1]
    assert (index.counts['broken'], index.counts['kept']) == (1, 2)
    named, = index.counts['first_broken']
    assert named.startswith('line 2: ')
    assert len(named) < 150


def test_a_line_without_an_end_and_what_is_no_file_are_refused_by_name(tmp_path):
    path = write(tmp_path / 'c.jsonl', [{'image': 'a.png', 'caption': '#dog'}])
    with path.open('a') as file:
        file.write('x' * (2**20 + 1))
    with pytest.raises(ValueError, match=f'{path}, line 2 has more than 1048576 bytes'):
        build_index(path, LABELS, parse_json_row, 'caption', 'image')
    os.mkfifo(tmp_path / 'pipe')
    for place in (tmp_path / 'pipe', tmp_path, '/dev/zero'):
        with pytest.raises(ValueError, match='give the path of a regular file'):
            build_index(place, LABELS, parse_json_row, 'caption', 'image')


def test_broken_rows_are_named_up_to_a_few(tmp_path):
    index = build_index(write(tmp_path / 'c.jsonl', ['x\n'] * 50), LABELS, parse_json_row, 'caption', 'image')
    assert index.counts['broken'] == 50
    assert [line.split(':')[0] for line in index.counts['first_broken']] == [f'line {n}' for n in range(1, 6)]


def test_what_was_not_written_so_is_not_loaded(captions, tmp_path):
    folder = tmp_path / 'index'

    def damaged(name, change):
        build_index(captions, LABELS, parse_json_row, 'caption', 'image').save(folder)
        path = folder / name
        if name.endswith('.npy'):
            array = np.load(path)
            path.unlink()
            np.save(path, change(array))
        else:
            path.write_text(change(path.read_text()))
        return folder

    for name, change in [
            ('labels.npy', lambda array: array[::-1]), ('labels.npy', lambda array: array + 100),
            ('starts.npy', lambda array: array[:-1]), ('places.npy', lambda array: array * 0),
            ('facts.json', lambda text: text.replace('"kept": 2', '"kept": 50')),
            ('facts.json', lambda text: text[:-9]), ('facts.json', lambda text: '[]'),
            ('facts.json', lambda text: '{"kept": 2}')]:
        with pytest.raises(ValueError, match=r'not as it was written|no index of|not JSON'):
            TagIndex.load(damaged(name, change), 3)
    (damaged('labels.npy', lambda array: array) / 'starts.npy').unlink()
    with pytest.raises(OSError, match='starts'):
        TagIndex.load(folder, 3)


def test_an_index_of_more_labels_than_there_are_is_not_loaded(captions, tmp_path):
    build_index(captions, LABELS, parse_json_row, 'caption', 'image').save(tmp_path / 'index')
    assert len(TagIndex.load(tmp_path / 'index', 3).places) == 2
    with pytest.raises(ValueError, match='no index of 2 rows and 2 labels'):
        TagIndex.load(tmp_path / 'index', 2)


FITTING = dict(places=np.array([0, 9, 20]), starts=np.array([0, 1, 3, 4]), labels=np.array([0, 1, 2, 2], np.int32),
               counts={'kept': 3})


@pytest.mark.parametrize('change', [
    {}, {'places': np.array([0, 9, 20], np.int32)}, {'starts': np.array([0, 1, 3, 4], np.int32)},
    {'labels': np.array([0, 1, 2, 2])}, {'labels': np.array([0, 1, -1, 2], np.int32)},
    {'labels': np.array([0, 1, 3, 2], np.int32)}, {'starts': np.array([0, 1, 4])}, {'counts': {'kept': 2}},
    {'counts': {}}, {'starts': np.array([1, 1, 3, 4])}, {'starts': np.array([0, 1, 3, 3])},
    {'starts': np.array([0, 1, 3, 5])}, {'places': np.array([[0], [9], [20]])},
    {'labels': np.array([[0], [1], [2], [2]], np.int32)}, {'starts': np.array([[0], [1], [3], [4]])}], ids=str)
def test_parts_that_do_not_fit_each_other_are_no_index(change):
    TagIndex(**FITTING).check(3)
    TagIndex(np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int32), {'kept': 0}).check(3)
    if change:
        with pytest.raises(ValueError, match='are no index of'):
            TagIndex(**FITTING | change).check(3)


def test_the_key_changes_with_the_file_the_labels_and_the_settings(captions, tmp_path):
    labels = write(tmp_path / 'labels.txt', ['dog\n'])
    key = index_key(captions, labels, 'caption')
    assert key == index_key(captions, labels, 'caption')
    assert key != index_key(captions, labels, 'text')
    write(labels, ['cat\n'])
    assert key != index_key(captions, labels, 'caption')
    write(labels, ['dog\n'])
    before, status = captions.read_bytes(), captions.stat()
    captions.write_bytes(before.replace(b'#dog', b'#cat'))
    os.utime(captions, ns=(status.st_atime_ns, status.st_mtime_ns))  # as after cp -p or rsync -t
    assert key != index_key(captions, labels, 'caption')
