import atexit
import multiprocessing.util
import os
import signal
import time
from contextlib import suppress

import pytest
import torch
from mmengine.hooks import Hook

from mm_graft.engine.hooks.preemption_hook import PreemptionHook, ignore_signals
from mm_graft.engine.hooks.safe_checkpoint_hook import SafeCheckpointHook
from tests.engine.hooks.test_safe_checkpoint_hook import make


class Signal(Hook):
    """Sends a signal in some iteration."""

    def __init__(self, name, iteration):
        self.number, self.iteration = signal.Signals[name], iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def _handlers():
    before = {name: signal.getsignal(signal.Signals[name]) for name in ('SIGTERM', 'SIGUSR1')}
    yield
    for name, handler in before.items():
        signal.signal(signal.Signals[name], handler)


def stopped(folder, name='SIGTERM', iteration=2, **settings):
    runner = make(folder, **settings)
    runner.register_hook(PreemptionHook())
    runner.register_hook(Signal(name, iteration))
    with pytest.raises(SystemExit) as end:
        runner.train()
    assert end.value.code == 0
    return torch.load(folder / 'stopped.pth', weights_only=False)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
def test_a_signal_saves_the_state_after_the_iteration_and_leaves_with_status_0(tmp_path, name):
    saved = stopped(tmp_path, name)
    assert saved['meta']['iter'] == 3
    assert {'state_dict', 'optimizer', 'message_hub'} <= set(saved)


def test_the_run_goes_on_after_it(tmp_path):
    stopped(tmp_path)
    runner = make(tmp_path, resume=True)
    runner.train()
    assert (runner.iter, runner.epoch) == (6, 3)


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


def test_processes_of_the_loader_outlive_the_signal_and_do_what_the_config_asks():
    done = []
    ignore_signals(3, [signal.SIGUSR1], done.append)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert done == [3]
    ignore_signals(3, [signal.SIGUSR1], None)


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


class Failure(Hook):
    """Ends a run as an error does, while its loader is at work."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 3:
            raise RuntimeError('on purpose')


def end_as_the_interpreter_does(folder, hooks):
    """What a forked process does: train with a loader that stays, and leave while it is still there."""
    atexit._clear()
    atexit.register(multiprocessing.util._exit_function)
    runner = make(folder)
    runner._train_dataloader.update(num_workers=2, persistent_workers=True)
    for hook in [PreemptionHook(), *hooks]:
        runner.register_hook(hook)
    with suppress(RuntimeError):
        runner.train()
    atexit._run_exitfuncs()


@pytest.mark.parametrize('hooks', [[], [Failure()]], ids=['through', 'failed'])
def test_a_run_whose_loader_stays_comes_to_its_end(tmp_path, hooks):
    process = os.fork()
    if not process:
        with suppress(BaseException):
            end_as_the_interpreter_does(tmp_path, hooks)
            os._exit(0)
        os._exit(1)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(process, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    if not ended[0]:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    assert ended == (process, 0)
