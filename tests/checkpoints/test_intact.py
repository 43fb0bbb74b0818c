import os
from pathlib import Path

import pytest
import torch
from mmengine.fileio import get_file_backend

from mm_graft.checkpoints.intact import ATOMIC, corruption_reason, newest_intact, training_meta
from mm_graft.checkpoints.reading import CheckpointError, first_non_finite, integrity
from tests.damages import DAMAGES, fuzz, small_checkpoint


def state(path, iteration=1, **more):
    torch.save({'meta': {'iter': iteration}, 'optimizer': {}, 'state_dict': {'w': torch.arange(40.)}, **more}, path)
    return path


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_no_other(tmp_path, monkeypatch):
    backend = get_file_backend(str(tmp_path / 'a.pth'), backend_args={'backend': ATOMIC})
    backend.put(b'old', tmp_path / 'a.pth')
    backend.put_text('note', tmp_path / 'note')
    assert ((tmp_path / 'a.pth').read_bytes(), (tmp_path / 'note').read_text()) == (b'old', 'note')

    def full(_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space'):
        backend.put(b'new', tmp_path / 'a.pth')
    assert sorted(os.listdir(tmp_path)) == ['a.pth', 'note']
    assert (tmp_path / 'a.pth').read_bytes() == b'old'


# of an archive of 20 KB half is no content: dates, rights and the gaps before records that are aligned
SEEN = {'bit flipped': 0.6, 'cut': 0.999, 'blocks swapped': 0.95, 'block zeroed': 0.9}


@pytest.mark.parametrize('rounds', [120, pytest.param(4000, marks=pytest.mark.slow)])
def test_no_damage_that_changes_content_is_accepted(tmp_path, rounds):
    counts = fuzz(tmp_path, rounds)
    assert counts.total() == rounds
    assert not {key: count for key, count in counts.items() if key[1] == 'WRONG'}
    assert [kind for kind in DAMAGES if counts[kind, 'refused'] < SEEN[kind] * rounds / len(DAMAGES)] == []


def test_the_search_for_wrong_content_can_find_it(tmp_path, monkeypatch):
    monkeypatch.setattr('tests.damages.corruption_reason', lambda path: None)
    monkeypatch.setattr('tests.damages.read_content', lambda path: path.read_bytes())
    assert set(fuzz(tmp_path, 8)) == {(kind, 'WRONG') for kind in DAMAGES}


@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_weights_that_are_no_numbers_are_named(tmp_path, value):
    weights = {'a': torch.ones(2), 'b': torch.tensor([1., value]), 'attn_mask': torch.tensor([-float('inf')])}
    assert first_non_finite(weights) == 'b'
    assert first_non_finite({'a': torch.ones(2), 'n': torch.ones(2, dtype=torch.long), 'mask': weights['b']}) is None
    torch.save({'meta': {'iter': 9}, 'optimizer': {}, 'state_dict': weights}, tmp_path / 'b.pth')
    assert corruption_reason(tmp_path / 'b.pth') == 'has weights that are NaN or infinite, first b'
    torch.save({'meta': {'iter': 9}, 'optimizer': {}, 'state_dict': {'a': weights['a']}, 'ema_state_dict': weights},
               tmp_path / 'b.pth')
    assert corruption_reason(tmp_path / 'b.pth') == 'has weights that are NaN or infinite, first b'
    state(tmp_path / 'a.pth', 3)
    assert newest_intact(tmp_path)[0] == tmp_path / 'a.pth'


def test_what_the_backend_writes_has_a_digest(tmp_path):
    assert integrity(small_checkpoint(tmp_path / 'a.pth')) == 'its digest'
    assert integrity(state(tmp_path / 'b.pth')).startswith('checksums only')
    torch.save({}, tmp_path / 'c.pth', _use_new_zipfile_serialization=False)
    assert integrity(tmp_path / 'c.pth').startswith('nothing')


@pytest.mark.parametrize('length', [0, 1, 100, -1])
def test_a_cut_file_is_seen(tmp_path, length):
    path = state(tmp_path / 'a.pth')
    path.write_bytes(path.read_bytes()[:length])
    assert 'is damaged or no checkpoint' in corruption_reason(path)


def test_one_flipped_bit_in_the_weights_is_seen_and_its_record_named(tmp_path):
    path = state(tmp_path / 'a.pth')
    raw = bytearray(path.read_bytes())
    raw[raw.index(torch.arange(40.).numpy().tobytes()) + 7] ^= 1
    path.write_bytes(raw)
    assert 'does not match its checksum' in corruption_reason(path)
    assert 'data/0' in corruption_reason(path)


def test_a_run_goes_on_from_training_states_only(tmp_path):
    assert training_meta(state(tmp_path / 'a.pth', 7))['iter'] == 7
    torch.save({'state_dict': {}, 'meta': {'iter': 7}}, tmp_path / 'best.pth')
    torch.save({'w': torch.zeros(1)}, tmp_path / 'weights.pth')
    assert training_meta(tmp_path / 'best.pth') is None
    assert training_meta(tmp_path / 'weights.pth') is None


class Exploit:

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target, )


def test_looking_for_a_checkpoint_runs_no_code(tmp_path):
    state(tmp_path / 'evil.pth', 9, evil=Exploit(tmp_path / 'ran'))
    with pytest.raises(CheckpointError, match=r'evil\.pth would run code'):
        training_meta(tmp_path / 'evil.pth')
    path, wrong = newest_intact(tmp_path)
    assert path is None
    assert 'would run code' in wrong[tmp_path / 'evil.pth']
    assert not (tmp_path / 'ran').exists()


def test_the_furthest_whole_state_is_found_whatever_names_and_times_say(tmp_path):
    assert newest_intact(tmp_path) == (None, {})
    for name, iteration in (('epoch_1', 4), ('epoch_10', 40), ('epoch_9', 36), ('stopped', 38)):
        state(tmp_path / f'{name}.pth', iteration)
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    os.utime(tmp_path / 'epoch_1.pth', (2e9, 2e9))
    assert newest_intact(tmp_path) == (tmp_path / 'epoch_10.pth', {})
    whole = (tmp_path / 'epoch_10.pth').read_bytes()
    (tmp_path / 'epoch_10.pth').write_bytes(whole[:-200])
    path, wrong = newest_intact(tmp_path)
    assert path == tmp_path / 'stopped.pth'
    assert list(wrong) == [tmp_path / 'epoch_10.pth']


def test_epochs_count_before_iterations_whose_length_may_have_changed(tmp_path):
    for name, epoch, iteration in (('epoch_2', 2, 40), ('epoch_3', 3, 30), ('stopped', 3, 35)):
        state(tmp_path / f'{name}.pth', meta={'epoch': epoch, 'iter': iteration})
    assert newest_intact(tmp_path)[0] == tmp_path / 'stopped.pth'


def test_files_of_another_run_do_not_count_where_a_run_is_given(tmp_path):
    for name, run in (('epoch_1', 'a'), ('epoch_2', 'b'), ('epoch_3', None)):
        state(tmp_path / f'{name}.pth', meta={'epoch': int(name[-1]), 'iter': 4, 'run_id': run})
    assert newest_intact(tmp_path, 'a') == (tmp_path / 'epoch_1.pth', {})
    assert newest_intact(tmp_path, 'b') == (tmp_path / 'epoch_2.pth', {})
    assert newest_intact(tmp_path, 'c') == (None, {})
