import atexit
import multiprocessing.util
import os
import signal
import time
from contextlib import suppress
from itertools import repeat
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import EMAHook, Hook
from torch.utils.data import DataLoader

from mm_graft.engine.reliability import preemption_hook
from mm_graft.engine.reliability.gradient_carry import GRADIENTS
from mm_graft.engine.reliability.preemption_hook import PreemptionHook, shared_batches
from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook
from tests.engine.reliability.test_safe_checkpoint_hook import Net, Two, make
from tests.own_process import launch, status_of


class Signal(Hook):
    """Sends a signal in some iteration."""

    def __init__(self, name, iteration):
        self.number, self.iteration = signal.Signals[name], iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def _handlers():
    before = {name: signal.getsignal(signal.Signals[name]) for name in ('SIGTERM', 'SIGUSR1', 'SIGINT')}
    yield
    for name, handler in before.items():
        signal.signal(signal.Signals[name], handler)


def stopped(folder, name='SIGTERM', iteration=2, **settings):
    runner = make(folder, **settings)
    runner.register_hook(PreemptionHook())
    runner.register_hook(Signal(name, iteration))
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == (130 if name == 'SIGINT' else 0)
    return torch.load(folder / 'stopped.pth', weights_only=False)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1', 'SIGINT'])
def test_a_signal_saves_the_state_after_the_iteration_and_leaves_with_its_status(tmp_path, name):
    saved = stopped(tmp_path, name)
    assert saved['meta']['iter'] == 3
    assert {'state_dict', 'optimizer', 'message_hub'} <= set(saved)


class Signals(Hook):
    """Sends one signal after the other in the third iteration, so many seconds apart, and notes that it got so far."""

    def __init__(self, names, note, apart):
        self.names, self.note, self.apart = names, note, apart

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            for name in self.names:
                os.kill(os.getpid(), signal.Signals[name])
                preemption_hook.time = SimpleNamespace(monotonic=repeat(time.monotonic() + self.apart).__next__)
            self.note.write_text(str(runner.iter))


def train_with_signals(_, folder, names, apart, variables):
    os.environ.update(variables)
    os.dup2(os.open(folder / 'said', os.O_CREAT | os.O_WRONLY), 2)
    runner = make(folder / 'run')
    runner._train_dataloader.update(num_workers=1)
    runner.register_hook(PreemptionHook())
    runner.register_hook(Signals(names, folder / 'note', apart))
    try:
        runner.train()
    except SystemExit as end:
        os._exit(end.code)
    os._exit(77)


def ended(folder, names, apart=0.0, **variables):
    """Status of a run in a process of its own, what it wrote to stderr, and whether its iteration went on."""
    folder.mkdir()
    status = status_of(launch(train_with_signals, folder, names, apart, variables))
    return status, (folder / 'said').read_text(), (folder / 'note').exists()


def test_a_first_signal_is_answered_at_once_and_a_second_one_ends_the_run_at_once(tmp_path):
    status, said, went_on = ended(tmp_path / 'once', ['SIGTERM'])
    line = 'SIGTERM: stopping after this iteration, which will be saved; a second signal ends the run at once'
    assert (status, said.splitlines().count(line), went_on) == (0, 1, True)
    for names in (['SIGTERM', 'SIGTERM'], ['SIGUSR1', 'SIGTERM'], ['SIGTERM', 'SIGINT']):
        status, said, went_on = ended(tmp_path / '_'.join(names), names)
        assert status == -signal.Signals[names[1]]
        assert said.count('stopping after this iteration') == 1
        assert not went_on


def train_without_a_reader(_, folder):
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    runner = make(folder)
    runner.register_hook(PreemptionHook())
    runner.register_hook(Signal('SIGINT', 2))
    try:
        runner.train()
    except SystemExit as end:
        os._exit(end.code)
    os._exit(77)


def test_a_run_whose_output_nobody_reads_any_more_saves_all_the_same(tmp_path):  # train … 2>&1 | tee log, and Ctrl-C
    assert status_of(launch(train_without_a_reader, tmp_path)) == 130
    assert torch.load(tmp_path / 'stopped.pth', weights_only=False)['meta']['iter'] == 3


@pytest.mark.parametrize('launcher', ['TORCHELASTIC_RUN_ID', 'SLURM_PROCID'])
def test_what_a_launcher_passes_on_is_the_same_signal_and_a_later_one_is_not(tmp_path, launcher):
    status, said, went_on = ended(tmp_path / 'twice', ['SIGTERM', 'SIGTERM'], 4.0, **{launcher: '0'})
    assert (status, said.count('stopping after this iteration'), went_on) == (0, 1, True)
    status, _, went_on = ended(tmp_path / 'later', ['SIGTERM', 'SIGTERM'], 6.0, **{launcher: '0'})
    assert (status, went_on) == (-signal.SIGTERM, False)


def test_the_run_goes_on_after_it(tmp_path):
    stopped(tmp_path)
    runner = make(tmp_path, resume=True)
    runner.train()
    assert (runner.iter, runner.epoch) == (6, 3)


def test_in_the_last_iteration_the_run_ends_as_ever_with_its_own_checkpoint(tmp_path):
    runner = make(tmp_path)
    runner.register_hook(PreemptionHook())
    runner.register_hook(Signal('SIGTERM', 5))
    runner.train()
    assert torch.load(tmp_path / 'epoch_3.pth', weights_only=False)['meta']['iter'] == 6
    assert not (tmp_path / 'stopped.pth').exists()


def test_gradients_half_accumulated_are_not_left_behind(tmp_path):
    runner = make(tmp_path)
    runner.register_hook(PreemptionHook())
    runner.register_hook(Signal('SIGTERM', 2))
    runner.optim_wrapper['accumulative_counts'] = 2
    with pytest.raises(SystemExit):
        runner.train()
    assert torch.load(tmp_path / 'stopped.pth', weights_only=False)['meta']['iter'] == 4


def test_without_a_signal_nothing_happens_and_the_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    runner = make(tmp_path)
    runner.register_hook(PreemptionHook(signals=['SIGTERM']))
    runner.train()
    assert runner.iter == 6
    assert not (tmp_path / 'stopped.pth').exists()
    assert signal.getsignal(signal.SIGTERM) == before


def test_it_says_what_it_needs(tmp_path):
    with pytest.raises(ValueError, match=r"signals \['SIGNOTHING'\] do not exist"):
        PreemptionHook(signals=['SIGNOTHING'])
    runner = make(tmp_path, type='CheckpointHook')
    runner.register_hook(PreemptionHook())
    with pytest.raises(ValueError, match=r"type='mm_graft\.SafeCheckpointHook'"):
        runner.train()


def test_a_run_that_keeps_nothing_is_left_alone(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    runner = make(tmp_path)
    runner._hooks = [hook for hook in runner._hooks if not isinstance(hook, SafeCheckpointHook)]
    hook = PreemptionHook()
    runner.register_hook(hook)
    hook.before_train(runner)
    assert signal.getsignal(signal.SIGTERM) == before
    runner.train()
    assert runner.iter == 6


class Validated(Net):
    """Has something to validate."""

    def forward(self, inputs, mode='loss', **kwargs):
        return [{'pred': 0}] if mode == 'predict' else super().forward(inputs, mode)


class SignalInValidation(Hook):
    """Sends a signal in the second validation: before it, or in its first batch."""

    def __init__(self, moment):
        self.moment = moment

    def after_train_epoch(self, runner):
        if self.moment == 'before' and runner.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        assert runner.epoch == 1 or (self.moment, batch_idx) == ('within', 0)
        if self.moment == 'within' and runner.epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def validated(folder, hooks, accumulated=1, resume=False):
    runner = make(folder, resume=resume)
    runner.optim_wrapper['accumulative_counts'] = accumulated
    runner.model = Validated()
    runner._val_loop, runner._val_evaluator = dict(type='ValLoop'), Evaluator([])
    runner._val_dataloader = {**runner._train_dataloader, 'dataset': Two()}
    runner.register_hook(EMAHook(momentum=0.5))
    for hook in [PreemptionHook(), *hooks]:
        runner.register_hook(hook)
    return runner


@pytest.mark.parametrize('accumulated', [1, 3])
@pytest.mark.parametrize('moment', ['before', 'within'])
def test_a_signal_in_a_validation_ends_it_and_saves_what_is_trained(tmp_path, moment, accumulated):
    validated(tmp_path / 'whole', [], accumulated).train()
    runner = validated(tmp_path / 'run', [SignalInValidation(moment)], accumulated)
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == 0
    saved = torch.load(tmp_path / 'run' / 'stopped.pth', weights_only=False)
    assert (saved['meta']['iter'], saved['meta']['epoch']) == (4, 2)
    epoch = torch.load(tmp_path / 'whole' / 'epoch_2.pth', weights_only=False)
    assert saved['state_dict'] == epoch['state_dict']
    assert bool(saved.get(GRADIENTS)) == (accumulated == 3)
    for loop in (runner.train_loop, runner.val_loop):
        assert loop.dataloader.worker_init_fn.keywords['numbers'] == (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)
    assert saved['ema_state_dict'] == epoch['ema_state_dict']
    assert saved['state_dict']['weight'] != saved['ema_state_dict']['module.weight']
    validated(tmp_path / 'run', [], accumulated, resume=True).train()
    left, right = (torch.load(tmp_path / name / 'epoch_3.pth', weights_only=False) for name in ('whole', 'run'))
    assert left['state_dict'] == right['state_dict']


def test_batches_that_every_process_has_are_those_of_the_sampler_that_is_known(monkeypatch):
    monkeypatch.setattr(preemption_hook, 'get_world_size', lambda: 2)
    seven = [0] * 7
    assert shared_batches(DataLoader(seven, 2, sampler=DefaultSampler(seven))) == 1
    assert shared_batches(DataLoader(seven, 1, sampler=DefaultSampler(seven))) == 3
    assert shared_batches(DataLoader(seven, 2)) == 0


class Failure(Hook):
    """Ends a run as an error does, while its loader is at work."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            raise RuntimeError('on purpose')


def end_as_the_interpreter_does(_, folder, hooks):
    """Train with a loader that stays, and leave while it is still there."""
    atexit._clear()
    atexit.register(multiprocessing.util._exit_function)
    runner = make(folder)
    runner._train_dataloader.update(num_workers=2, persistent_workers=True)
    for hook in [PreemptionHook(), *hooks]:
        runner.register_hook(hook)
    with suppress(RuntimeError):
        runner.train()
    atexit._run_exitfuncs()
    os._exit(0)


@pytest.mark.parametrize('hooks', [[], [Failure()]], ids=['through', 'failed'])
def test_a_run_whose_loader_stays_comes_to_its_end(tmp_path, hooks):
    assert status_of(launch(end_as_the_interpreter_does, tmp_path, hooks)) == 0
