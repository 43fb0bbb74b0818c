import gc
import logging
import os
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mm_graft.checkpoints.reading import CheckpointError
from mm_graft.engine.reliability.safe_checkpoint_hook import STOPPED, SafeCheckpointHook, clear_write_errors


class Two(Dataset):

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {'inputs': torch.tensor(float(index))}


class Net(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='loss', **kwargs):
        return {'loss': (self.weight * inputs).sum()}


def make(folder, epochs=3, resume=False, load_from=None, **hook):
    return Runner(
        model=Net(), work_dir=str(folder), experiment_name=f'{folder.name}{os.urandom(4).hex()}',
        train_dataloader=dict(batch_size=1, dataset=Two(), sampler=dict(type='DefaultSampler', shuffle=False),
                              collate_fn=dict(type='default_collate'), num_workers=0),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), resume=resume, load_from=load_from,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs), log_level='WARNING', default_hooks=dict(
            logger=None, rng=dict(type='mm_graft.RNGStateHook'),
            checkpoint=dict(type='mm_graft.SafeCheckpointHook', interval=1) | hook))


@pytest.fixture
def folder(tmp_path):
    """A run of three epochs."""
    make(tmp_path / 'run').train()
    return tmp_path / 'run'


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def resumed(folder, caplog=None, **kwargs):
    runner = make(folder, epochs=4, resume=True, **kwargs)
    start = []
    original = runner.resume
    runner.resume = lambda path, *args, **more: (start.append(Path(path).name), original(path, *args, **more))
    runner.train()
    return start, runner.iter


def test_a_run_resumes_from_its_last_state(folder):
    assert resumed(folder) == (['epoch_3.pth'], 8)


def test_a_damaged_last_state_is_named_and_the_one_before_is_used(folder, monkeypatch):
    cut(folder / 'epoch_3.pth')
    warnings = []
    monkeypatch.setattr(logging.Logger, 'warning', lambda self, text, *args: warnings.append(text))
    assert resumed(folder) == (['epoch_2.pth'], 8)
    assert [text for text in warnings if 'epoch_3.pth is damaged or no checkpoint' in text]


def test_where_nothing_is_whole_the_run_does_not_start_anew_by_itself(folder):
    for path in folder.glob('*.pth'):
        cut(path)
    with pytest.raises(CheckpointError, match=r'no checkpoint in .* is intact; remove .*epoch_1\.pth.* to start over'):
        resumed(folder)


def test_an_empty_folder_is_a_new_run(tmp_path):
    assert resumed(tmp_path / 'new') == ([], 8)


def test_a_damaged_file_that_was_asked_for_is_refused_with_an_alternative(folder):
    cut(folder / 'epoch_3.pth')
    with pytest.raises(CheckpointError, match=r'epoch_3\.pth is damaged.*intact one beside it is .*epoch_2\.pth'):
        resumed(folder, load_from=str(folder / 'epoch_3.pth'))
    assert resumed(folder, load_from=str(folder / 'epoch_1.pth')) == (['epoch_1.pth'], 8)


def test_what_a_killed_writer_left_is_removed(folder):
    for name in ('.epoch_4.pth.a1b2c3d4.part', '.other'):
        (folder / name).touch()
    resumed(folder)
    assert {path.name for path in folder.glob('.*')} == {'.other', '.run.lock'}


def test_another_folder_for_checkpoints_is_searched_too(tmp_path):
    make(tmp_path / 'run', out_dir=str(tmp_path / 'out')).train()
    assert (tmp_path / 'out' / 'run' / 'epoch_3.pth').is_file()
    assert resumed(tmp_path / 'run', out_dir=str(tmp_path / 'out')) == (['epoch_3.pth'], 8)


def test_two_are_kept_at_least(tmp_path):
    assert [SafeCheckpointHook(max_keep_ckpts=number).max_keep_ckpts for number in (-1, 1, 2, 3)] == [-1, 2, 2, 3]
    make(tmp_path, max_keep_ckpts=1).train()
    assert {path.name for path in tmp_path.glob('*.pth')} == {'epoch_2.pth', 'epoch_3.pth'}


def test_chosen_epochs_stay_and_do_not_count_over_a_resume_too(tmp_path):
    make(tmp_path, epochs=4, max_keep_ckpts=2, keep=[1, 3]).train()
    assert {path.name for path in tmp_path.glob('*.pth')} == {f'epoch_{epoch}.pth' for epoch in (1, 2, 3, 4)}
    make(tmp_path, epochs=6, resume=True, max_keep_ckpts=2, keep=[1, 3]).train()
    assert {path.name for path in tmp_path.glob('*.pth')} == {f'epoch_{epoch}.pth' for epoch in (1, 3, 5, 6)}
    with pytest.raises(ValueError, match=r'nothing is saved at \[3\]'):
        SafeCheckpointHook(interval=2, keep=[2, 3])


@pytest.mark.parametrize('moment', ['at the start', 'while it trains'])
@pytest.mark.parametrize('fault', ['full disk', 'vanished folder', 'read-only folder'])
def test_what_cannot_be_written_names_the_reason_and_the_last_whole_state(folder, monkeypatch, fault, moment):
    def fail(*args, **kwargs):
        if fault == 'full disk':
            raise OSError(28, 'No space left on device')
        if fault == 'vanished folder':
            raise FileNotFoundError(2, 'No such file or directory')
        raise PermissionError(13, 'Permission denied')

    runner = make(folder, epochs=5, resume=True)
    before = (folder / 'epoch_3.pth').read_bytes()
    break_down = Hook()
    break_down.before_train = lambda runner: monkeypatch.setattr(
        'mm_graft.files._reserve' if fault != 'full disk' else 'os.fsync', fail)
    if moment == 'while it trains':
        runner.register_hook(break_down)
    else:
        break_down.before_train(runner)
    with pytest.raises(OSError, match=r'no checkpoint could be written to .*intact one is .*epoch_3\.pth.*--resume'):
        runner.train()
    assert (runner.iter > 6) == (moment == 'while it trains')
    monkeypatch.undo()
    assert (folder / 'epoch_3.pth').read_bytes() == before
    assert [path.name for path in folder.glob('.*')] == ['.run.lock']
    assert resumed(folder)[0] == ['epoch_3.pth']


def test_a_state_of_the_middle_is_saved_whole_and_preferred(folder):
    runner = make(folder, epochs=5, resume=True)
    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    hook.after_train_iter = lambda runner, **kwargs: runner.iter == 6 and hook.save_now(runner)
    hook.after_train_epoch = lambda runner: None
    runner.train()
    state = torch.load(folder / STOPPED, weights_only=False)
    assert (state['meta']['epoch'], state['meta']['iter']) == (3, 7)
    assert (folder / 'last_checkpoint').read_text() == str(folder / STOPPED)
    assert resumed(folder)[0] == [STOPPED]


def test_a_new_run_does_not_begin_among_the_files_of_another(folder):
    before = {path.name: path.read_bytes() for path in folder.glob('*.pth')}
    with pytest.raises(ValueError, match=r'has the checkpoints of a run \(epoch_1\.pth, .*--resume.*--work-dir'):
        make(folder).train()
    assert {path.name: path.read_bytes() for path in folder.glob('*.pth')} == before


def test_a_run_goes_on_from_its_own_files_only(folder):
    other = folder.parent / 'other'
    make(other, epochs=5).train()
    (other / 'epoch_5.pth').rename(folder / 'better.pth')
    assert resumed(folder) == (['epoch_3.pth'], 8)


def test_a_run_that_began_again_from_an_earlier_file_leaves_the_later_ones_behind(folder):
    """Killed before its first checkpoint it begins again from the same file; then it goes on from its own."""
    runner = make(folder, epochs=4, resume=True, load_from=str(folder / 'epoch_1.pth'))
    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    hook.after_train_epoch = lambda runner: 1 / 0
    with pytest.raises(ZeroDivisionError):
        runner.train()
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_1.pth')
    runner = make(folder, epochs=4, resume=True)
    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    hook.before_train_epoch = lambda runner: 1 / 0 if runner.epoch == 2 else None
    with pytest.raises(ZeroDivisionError):
        runner.train()
    assert resumed(folder) == (['epoch_2.pth'], 8)


def test_files_from_before_runs_had_an_identity_are_one_run(folder):
    for path in folder.glob('*.pth'):
        content = torch.load(path, weights_only=False)
        del content['meta']['run_id']
        torch.save(content, path)
    (folder / 'run.json').unlink()
    assert resumed(folder) == (['epoch_3.pth'], 8)
    assert torch.load(folder / 'epoch_4.pth', weights_only=False)['meta']['run_id']
    assert resumed(folder) == (['epoch_4.pth'], 8)


def test_the_note_of_the_last_checkpoint_names_none_of_another_run(folder):
    for path in folder.glob('*.pth'):
        path.unlink()
    runner = make(folder)
    hook = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
    hook.before_train_epoch = lambda runner: 1 / 0
    with pytest.raises(ZeroDivisionError):
        runner.train()
    assert not (folder / 'last_checkpoint').exists()


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(KeyError), clear_write_errors(tmp_path):
        raise KeyError


def test_a_run_outside_of_the_tools_opens_its_file_safely_and_leaves_torch_as_it_was(folder, monkeypatch):
    gc.collect()  # runs that failed in other tests end what they have replaced
    original, during = torch.load, []
    runner = make(folder, epochs=4, resume=True)
    resume = runner.resume
    runner.resume = lambda *args, **kwargs: (during.append(torch.load), resume(*args, **kwargs))
    runner.train()
    assert during != [original]
    assert torch.load is original


def test_weights_that_are_no_numbers_are_not_resumed(folder):
    state = torch.load(folder / 'epoch_3.pth', weights_only=False)
    state['state_dict']['weight'].fill_(float('nan'))
    torch.save(state, folder / 'epoch_3.pth')
    assert resumed(folder) == (['epoch_2.pth'], 8)
