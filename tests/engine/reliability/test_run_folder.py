import json
import os
import signal

import pytest
import torch
import torch.multiprocessing as mp

from mm_graft.engine.reliability.run_folder import (
    Record,
    asked_run,
    hold_folder,
    new_run,
    read_record,
    run_files,
    write_record,
)
from tests.own_process import SECONDS, launch


def checkpoint(path, run=None, iteration=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {'iter': iteration} | ({'run_id': run} if run else {})
    torch.save({'meta': meta, 'optimizer': {}, 'state_dict': {}}, path)
    return str(path)


def hold(_, folder, said):
    hold_folder(folder)
    said.put('held')
    signal.pause()


def hold_with_a_child(_, folder, said):
    hold_folder(folder)
    child = mp.get_context('fork').Process(target=signal.pause)
    child.start()
    said.put(child.pid)
    signal.pause()


@pytest.mark.parametrize('held', [hold, hold_with_a_child])
def test_one_process_at_a_time_is_at_work_in_a_folder_and_not_what_a_dead_one_has_started(tmp_path, held):
    said = mp.get_context('forkserver').Queue()
    process = launch(held, tmp_path / 'run', said)
    child = said.get(timeout=SECONDS)
    with pytest.raises(ValueError, match=rf'another run is using .*run \(process {process.pid} on .*--work-dir'):
        hold_folder(tmp_path / 'run')
    hold_folder(tmp_path / 'other')
    process.kill()
    process.join()
    try:
        hold_folder(tmp_path / 'run')
        hold_folder(tmp_path / 'run')
    finally:
        if child != 'held':
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize('kind', ['link', 'dead link', 'folder', 'pipe'])
def test_a_lock_that_is_no_file_of_the_folder_is_named_and_nothing_is_written_through_it(tmp_path, kind):
    lock, target = tmp_path / 'run' / '.run.lock', tmp_path / 'target'
    lock.parent.mkdir()
    {'link': lambda: (target.write_text('kept'), lock.symlink_to(target)), 'dead link': lambda: lock.symlink_to(target),
     'folder': lock.mkdir, 'pipe': lambda: os.mkfifo(lock)}[kind]()
    with pytest.raises(ValueError, match=r'\.run\.lock is no regular file.*remove it'):
        hold_folder(tmp_path / 'run')
    assert target.exists() == (kind == 'link')
    assert kind != 'link' or target.read_text() == 'kept'


def test_a_record_is_read_as_it_was_written(tmp_path):
    assert read_record(tmp_path) is None
    for record in (Record('a'), Record('b', '/x/epoch_3.pth', 15)):
        write_record(tmp_path, record)
        assert read_record(tmp_path) == record


@pytest.mark.parametrize('text', ['[]', '{"run": "a"}', '{', '5', ''])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / 'run.json').write_text(text)
    with pytest.raises(ValueError, match=r'run\.json is not the record of a run; remove it and give --resume FILE'):
        read_record(tmp_path)


def test_only_files_to_go_on_from_are_of_a_run(tmp_path):
    first = checkpoint(tmp_path / 'epoch_1.pth', 'a')
    second = checkpoint(tmp_path / 'old.pth')
    torch.save({'state_dict': {}, 'meta': {'iter': 3}}, tmp_path / 'best.pth')
    (tmp_path / 'damaged.pth').write_bytes(b'PK')
    assert {str(path): run for path, run in run_files(tmp_path).items()} == {first: 'a', second: None}


def test_every_run_that_begins_is_another(tmp_path):
    assert new_run().run != new_run().run
    assert asked_run(tmp_path, resume=False, load_from=None).began_from is None
    file = checkpoint(tmp_path / 'run' / 'epoch_1.pth', 'a')
    for folder in ('run', 'new'):
        begun = asked_run(tmp_path / folder, resume=True, load_from=file)
        assert begun.began_from == file
        assert begun.run != 'a'


def test_a_run_does_not_begin_among_the_files_of_another(tmp_path):
    file = checkpoint(tmp_path / 'run' / 'epoch_1.pth', 'a')
    checkpoint(tmp_path / 'other' / 'epoch_9.pth', 'b')
    for resume, load_from in ((False, None), (False, file), (True, file)):
        with pytest.raises(ValueError, match=r'other has the checkpoints of a run \(epoch_9\.pth\); continue it with'):
            asked_run(tmp_path / 'other', resume, load_from)
    torch.save({'state_dict': {}}, tmp_path / 'weights.pth')
    assert asked_run(tmp_path, resume=False, load_from=file)


def test_the_same_command_may_begin_again_from_the_same_file(tmp_path):
    file = checkpoint(tmp_path / 'run' / 'epoch_1.pth', 'a')
    begun = asked_run(tmp_path / 'new', resume=True, load_from=file)
    checkpoint(tmp_path / 'new' / 'epoch_2.pth', begun.run)
    write_record(tmp_path / 'new', begun)
    assert asked_run(tmp_path / 'new', resume=True, load_from=file).began_from == file
    with pytest.raises(ValueError, match='has the checkpoints of a run'):
        asked_run(tmp_path / 'new', resume=True, load_from=checkpoint(tmp_path / 'run' / 'epoch_3.pth', 'a'))


def going_on(folder):
    return asked_run(folder, resume=True, load_from=None)


def test_a_resume_goes_on_with_the_run_of_the_folder(tmp_path):
    checkpoint(tmp_path / 'epoch_1.pth', 'a')
    assert going_on(tmp_path) == Record('a')
    checkpoint(tmp_path / 'epoch_2.pth', 'b')
    with pytest.raises(ValueError, match=r'several runs \(epoch_1\.pth, epoch_2\.pth\).*--resume FILE'):
        going_on(tmp_path)
    for record in (Record('a'), Record('b', None, 7), Record('c', '/x/epoch_3.pth')):
        write_record(tmp_path, record)
        assert going_on(tmp_path) == record
    write_record(tmp_path, Record('c'))
    with pytest.raises(ValueError, match='of another run only'):
        going_on(tmp_path)


def test_files_without_an_identity_are_one_run_without_a_record(tmp_path):
    for name in ('epoch_1', 'epoch_2'):
        checkpoint(tmp_path / f'{name}.pth')
    assert going_on(tmp_path) is None
    write_record(tmp_path, Record('a'))
    with pytest.raises(ValueError, match='of another run only'):
        going_on(tmp_path)


def test_an_empty_folder_has_a_new_run_or_that_which_has_no_file_yet(tmp_path):
    assert going_on(tmp_path).began_from is None
    write_record(tmp_path, Record('a'))
    assert going_on(tmp_path) == Record('a')
    assert json.loads((tmp_path / 'run.json').read_text())['run'] == 'a'
