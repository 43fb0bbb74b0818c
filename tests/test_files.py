import errno
import fcntl
import json
import os
import random
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from mm_graft.files import (
    MAX_DEPTH,
    WriteError,
    atomic_folder,
    atomic_write,
    open_regular,
    parse_json,
    read_arrays,
    read_lines,
    read_small_json,
    read_small_text,
    remove_abandoned,
    write_arrays,
    write_text,
    writing_to,
)


def test_text_and_json_are_read(tmp_path):
    path = tmp_path / 'a'
    path.write_text('τ 1\n')
    assert read_small_text(path) == 'τ 1\n'
    path.write_text('{"a": [1, null]}')
    assert read_small_json(path) == {'a': [1, None]}
    assert read_small_text(path, limit=16) == '{"a": [1, null]}'


def test_what_is_too_large_is_not_read_to_its_end(tmp_path):
    path = tmp_path / 'a'
    with path.open('wb') as file:
        file.truncate(2**40)  # a hole: a terabyte that takes no room
    with pytest.raises(ValueError, match=f'{path} has more than 1000 bytes'):
        read_small_text(path, limit=1000)
    with pytest.raises(ValueError, match='more than'):
        read_small_json(path)
    with pytest.raises(ValueError, match=f'{path}, line 1 has more than'):
        list(read_lines(path))


@pytest.mark.parametrize('content', [b'\xff\xfe', b'[' * 10**6, b'{"a": ', b'', b'1' * 10**5])
def test_what_is_no_json_is_one_kind_of_error_that_names_the_file(tmp_path, content):
    (tmp_path / 'a').write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path / 'a')):
        read_small_json(tmp_path / 'a')


@pytest.mark.parametrize(('opening', 'closing'), ['[]', ('{"a":', '}')])
def test_the_depth_of_json_has_a_bound(opening, closing):
    def nested(depth):
        return opening * depth + 'null' + closing * depth

    assert parse_json(nested(MAX_DEPTH))
    with pytest.raises(ValueError, match=f'deeper than {MAX_DEPTH}'):
        parse_json(nested(MAX_DEPTH + 1))


def test_damaged_json_is_content_or_that_error(tmp_path):
    rng, path = random.Random(0), tmp_path / 'a'
    whole = json.dumps({'protocols': {'knn': {'top1': 12.5}}, 'seconds': 3}).encode()
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 4, 20))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[:rng.randrange(len(content) + 1)])
        with suppress(ValueError):
            read_small_json(path)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_small_text(tmp_path / 'none')


def test_lines_come_with_their_ends_up_to_the_limit(tmp_path):
    (tmp_path / 'a').write_bytes(b'123\n\nab\n4567')
    assert list(read_lines(tmp_path / 'a', limit=4)) == [b'123\n', b'\n', b'ab\n', b'4567']
    lines = read_lines(tmp_path / 'a', limit=3)
    with pytest.raises(ValueError, match='line 1 has more than 3 bytes'):
        next(lines)


READERS = open_regular, read_small_text, read_small_json, lambda path: next(read_lines(path))


@pytest.mark.parametrize('reader', READERS)
def test_only_regular_files_are_opened(tmp_path, reader):
    os.mkfifo(tmp_path / 'fifo')
    (tmp_path / 'link').symlink_to(tmp_path / 'fifo')
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / 'socket'))
    for path, what in (('fifo', 'a pipe'), ('link', 'a pipe'), ('socket', 'a socket'), ('', 'a directory'),
                       ('/dev/zero', 'a device')):
        with pytest.raises(ValueError, match=f'{tmp_path / path} is {what}'):
            reader(tmp_path / path)


def test_a_link_to_a_regular_file_is_read(tmp_path):
    (tmp_path / 'a').write_text('text')
    (tmp_path / 'link').symlink_to('a')
    assert read_small_text(tmp_path / 'link') == 'text'


def test_a_written_file_appears_whole_with_the_usual_rights(tmp_path):
    target = tmp_path / 'new' / 'a.json'
    with atomic_write(target) as part:
        part.write_text('new')
        assert os.listdir(target.parent) == [part.name]
    assert os.listdir(target.parent) == ['a.json']
    assert target.read_text() == 'new'
    (tmp_path / 'plain').touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / 'plain').stat().st_mode)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    (tmp_path / 'a').write_text('old')

    def full(_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space'), atomic_write(tmp_path / 'a') as part:
        part.write_text('new')
    assert os.listdir(tmp_path) == ['a']
    assert (tmp_path / 'a').read_text() == 'old'


@pytest.mark.parametrize('writing', [atomic_write, atomic_folder])
def test_an_error_of_a_full_disk_names_what_could_not_be_written(tmp_path, writing):
    target = tmp_path / 'kept'
    with pytest.raises(OSError, match=f'^{target} cannot be written: No space .*make room there, or name another'), \
            writing(target), open('/dev/full', 'wb', buffering=0) as disk:
        disk.write(b'new')
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="No such file or directory: 'input'"), writing(target):
        os.stat('input')


def test_a_full_disk_is_named_by_the_file_in_the_error_if_there_is_one():
    with pytest.raises(WriteError, match=r'^other cannot be written'), writing_to('folder'):
        raise OSError(errno.ENOSPC, 'No space left on device', 'other')
    with pytest.raises(WriteError, match=r'^folder cannot be written: Disk quota'), writing_to('folder'):
        raise OSError(errno.EDQUOT, 'Disk quota exceeded')
    with pytest.raises(PermissionError), writing_to('folder'):
        raise PermissionError(errno.EACCES, 'Permission denied')


def test_a_text_is_written_whole_into_a_new_folder(tmp_path):
    write_text(tmp_path / 'new' / 'a.txt', 'τ\n')
    assert (tmp_path / 'new' / 'a.txt').read_bytes() == 'τ\n'.encode()


def test_a_link_is_written_through_and_what_is_no_file_is_left_alone(tmp_path):
    (tmp_path / 'far').mkdir()
    (tmp_path / 'far' / 'a').write_text('old')
    (tmp_path / 'a').symlink_to('far/a')
    with atomic_write(tmp_path / 'a') as part:
        part.write_text('new')
    assert (tmp_path / 'a').is_symlink()
    assert (tmp_path / 'far' / 'a').read_text() == 'new'
    os.mkfifo(tmp_path / 'fifo')
    with pytest.raises(ValueError, match='is a pipe'), atomic_write(tmp_path / 'fifo'):
        pass
    assert (tmp_path / 'fifo').is_fifo()


def test_only_what_dead_writers_left_is_removed(tmp_path):
    (tmp_path / '.a.pth.0123abcd.part').touch()
    (tmp_path / '.a.json.0123abcd.part').touch()
    (tmp_path / '.a.pth.note').touch()
    with atomic_write(tmp_path / 'b.pth') as part:
        part.write_text('x')
        assert remove_abandoned(tmp_path, '.pth') == [tmp_path / '.a.pth.0123abcd.part']
        assert part.exists()
    assert sorted(os.listdir(tmp_path)) == ['.a.json.0123abcd.part', '.a.pth.note', 'b.pth']
    assert remove_abandoned(tmp_path) == [tmp_path / '.a.json.0123abcd.part']


def test_a_writer_that_is_swept_away_before_its_lock_takes_another_name(tmp_path, monkeypatch):
    swept, flock = [], fcntl.flock

    def sweep_once(descriptor, how):
        if not swept:
            swept.append(True)
            sweeper = threading.Thread(target=remove_abandoned, args=(tmp_path, ))
            sweeper.start()
            sweeper.join()
        return flock(descriptor, how)

    monkeypatch.setattr(fcntl, 'flock', sweep_once)
    with atomic_write(tmp_path / 'a') as part:
        part.write_text('x')
    assert os.listdir(tmp_path) == ['a']


def test_a_folder_appears_whole_in_place_of_the_old_one_or_not_at_all(tmp_path):
    folder = tmp_path / 'new' / 'kept'
    for text in ('first', 'second'):
        with atomic_folder(folder) as part:
            (part / text).write_text(text)
        assert [path.name for path in folder.iterdir()] == [text]
    with suppress(RuntimeError), atomic_folder(folder) as part:
        (part / 'half').write_text('')
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ['second']
    assert [path.name for path in folder.parent.iterdir()] == ['kept']


def test_a_folder_that_another_process_put_there_meanwhile_stays(tmp_path, monkeypatch):
    folder, rename = tmp_path / 'kept', Path.rename

    def later(path, target):
        folder.mkdir()
        (folder / 'theirs').touch()
        rename(path, target)

    monkeypatch.setattr(Path, 'rename', later)
    with atomic_folder(folder) as part:
        (part / 'ours').touch()
    assert [path.name for path in folder.iterdir()] == ['theirs']
    assert [path.name for path in tmp_path.iterdir()] == ['kept']


def test_arrays_come_back_with_their_facts_and_only_as_they_were_written(tmp_path):
    folder, arrays = tmp_path / 'kept', {'a': np.arange(6).reshape(2, 3), 'b': np.array([0.5])}
    write_arrays(folder, arrays, {'of': 'two'})
    found, facts = read_arrays(folder, ('b', 'a'), 'r')
    assert [part.tolist() for part in found] == [[0.5], [[0, 1, 2], [3, 4, 5]]]
    assert facts['of'] == 'two'
    write_arrays(folder, {'a': np.zeros(2)}, {})  # takes its place
    assert not (folder / 'b.npy').exists()
    assert read_arrays(folder, ('a', ), 'r')[0][0].tolist() == [0, 0]
    for missing in ({}, [], {'sha256': {'a': 'other'}}):
        (folder / 'facts.json').write_text(json.dumps(missing))
        with pytest.raises(ValueError, match='not as it was written'):
            read_arrays(folder, ('a', ), 'r')
