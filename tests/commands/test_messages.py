import os
import re
import signal
import subprocess
import sys

import pytest
from mmengine.registry import MODELS

import mm_graft.models  # noqa: F401
from mm_graft.commands.messages import TRACEBACK, ReportedError, clean_errors, one_line
from tests.own_process import SECONDS


@pytest.fixture(autouse=True)
def _no_traceback_wanted(monkeypatch):
    monkeypatch.delenv(TRACEBACK, raising=False)


@pytest.mark.parametrize('error', [ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
                                   FileNotFoundError])
def test_an_error_of_the_inputs_is_one_line_and_a_failure(capsys, error):
    with pytest.raises(SystemExit) as end, clean_errors():
        raise error('depth 14 is\n too deep;   choose 1-12')
    assert end.value.code == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == 'error: depth 14 is too deep; choose 1-12'
    assert TRACEBACK in second


def test_an_error_that_says_nothing_tells_where_it_comes_from():
    with pytest.raises(AssertionError) as caught:
        raise AssertionError
    assert one_line(caught.value).startswith('AssertionError (`raise AssertionError`, test_messages.py:')
    with pytest.raises(KeyError) as caught:
        {}['inputs']
    assert one_line(caught.value).startswith("KeyError: inputs (`{}['inputs']`, test_messages.py:")
    assert one_line(RuntimeError()) == 'RuntimeError'


class Component:

    def __init__(self, size=1, weights=None):
        self.rows, self.columns = size


class Divided(Component):

    def __init__(self, parts):
        self.size = 8 // parts


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(type=Component, size='text', weights=object()),
     "Component cannot be built with size='text': too many values"),
    (dict(type=Component), 'Component cannot be built with no settings: .*int'),
    (dict(type=Component, sizes=2), 'Component cannot be built with sizes=2: .*unexpected keyword'),
    (dict(type=Divided, parts=0), 'Divided cannot be built with parts=0: .*zero')])
def test_words_of_a_library_about_a_component_come_with_its_settings(capsys, settings, message):
    """The innermost one that was being built; objects among its settings are left out."""
    with pytest.raises(SystemExit), clean_errors():
        MODELS.build(settings)
    assert re.match('error: ' + message, capsys.readouterr().err)


def build_dataloader(size):
    raise ValueError(f'batch_size should be positive, but got {size}')


class Loop:

    def __init__(self, max_epochs):
        build_dataloader('text')


def test_words_about_a_loader_do_not_blame_the_loop_that_builds_it(capsys):
    with pytest.raises(SystemExit), clean_errors():
        MODELS.build(dict(type=Loop, max_epochs=1))
    assert capsys.readouterr().err.startswith('error: batch_size should be positive, but got text')


def test_words_of_ours_about_a_component_stay_alone(capsys):
    with pytest.raises(SystemExit), clean_errors():
        MODELS.build(dict(type='mm_graft.SpreadBlockMask', img_size=32, patch_size=7))
    assert capsys.readouterr().err.startswith('error: patch_size=7 does not divide')


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), clean_errors():
        1 / 0


def test_an_error_of_a_run_that_has_started_keeps_its_traceback():
    def run():
        try:
            raise ValueError('later')
        except ValueError as error:
            raise ReportedError from error

    with pytest.raises(ValueError, match='later'), clean_errors():
        run()


def test_the_environment_can_ask_for_the_traceback(monkeypatch):
    monkeypatch.setenv(TRACEBACK, '1')
    with pytest.raises(ValueError, match='here'), clean_errors():
        raise ValueError('here')


PROGRAM = """
import atexit, signal, sys, time
from mm_graft.commands.messages import clean_errors
atexit.register(lambda: (print('cleaning up', flush=True), time.sleep(float(sys.argv[1]))))
with clean_errors():
    print('ready', flush=True)
    time.sleep(60)
"""


def interrupted(seconds, number=signal.SIGINT, **environment):
    """A program that is interrupted, and that then cleans up for so long."""
    child = subprocess.Popen([sys.executable, '-c', PROGRAM, str(seconds)], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': os.getcwd(), **environment})
    assert child.stdout.readline() == 'ready\n'
    child.send_signal(number)
    return child


@pytest.mark.parametrize(('number', 'line', 'status'), [
    (signal.SIGINT, 'interrupted', 130), (signal.SIGTERM, 'terminated', 143)])
def test_ctrl_c_and_sigterm_are_one_line_and_their_status(number, line, status):
    assert interrupted(0, number).communicate(timeout=SECONDS) == ('cleaning up\n', f'{line}\n')
    assert interrupted(0, number).wait(timeout=SECONDS) == status


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number):
    child = interrupted(60, number)
    assert child.stdout.readline() == 'cleaning up\n'
    child.send_signal(number)
    assert child.wait(timeout=SECONDS) == -number
    child.communicate()


def test_sigterm_ends_one_of_several_processes_at_once():
    child = interrupted(60, signal.SIGTERM, WORLD_SIZE='2')
    assert child.communicate(timeout=SECONDS) == ('', '')
    assert child.returncode == -signal.SIGTERM


def test_signals_are_as_before_once_a_command_has_ended():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with clean_errors():
        assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is not before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
