"""These fail if PyTorch's loaders treat signals to their processes in another way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from mm_graft.evaluation.reading import read_images
from mm_graft.host import loader_processes
from mm_graft.host.loader_processes import answered, ignore_signals, outlive_signals
from tests.own_process import SECONDS

ROOT = Path(__file__).parents[2]
LOADER = """
import os, signal, sys
from torch.utils.data import DataLoader
from mm_graft.host.loader_processes import answered, end_at_once, end_loader_processes, outlive_signals

os.setpgid(0, 0)
signal.signal(signal.SIGTERM, lambda number, frame: None)
if sys.argv[1] == 'answered':
    answered.add(signal.SIGTERM)
batches = iter(outlive_signals(DataLoader(range(64), num_workers=2, persistent_workers=True)))
next(batches), next(batches)  # one of each process, which are then through with their start
if sys.argv[2] == 'at once':
    end_at_once(signal.SIGTERM)
os.killpg(0, signal.SIGTERM)
try:
    print('seen', 2 + len(list(batches)), flush=True)
finally:
    end_loader_processes()
"""


@pytest.fixture
def heeded():
    answered.add(signal.SIGUSR1)
    yield
    answered.clear()


def end(*words):
    return subprocess.run([sys.executable, '-c', LOADER, *words], text=True, capture_output=True, timeout=SECONDS,
                          check=False, env={**os.environ, 'PYTHONPATH': str(ROOT)})


def test_a_signal_to_the_group_leaves_the_loader_its_processes():
    done = end('answered', 'all')
    assert (done.returncode, done.stdout) == (0, 'seen 64\n'), done.stderr
    assert 'seen 64' not in end('not', 'all').stdout


def test_whoever_ends_at_once_leaves_no_process_of_a_loader():
    done = end('answered', 'at once')  # which holds the pipe as long as one of them lives
    assert done.returncode == -signal.SIGTERM


def test_a_process_of_a_loader_does_first_what_the_config_asks():
    before, done = signal.getsignal(signal.SIGUSR1), []
    ignore_signals(3, (signal.SIGUSR1, ), done.append)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert done == [3]
    ignore_signals(3, (signal.SIGUSR1, ), None)
    signal.signal(signal.SIGUSR1, before)


def test_loaders_of_an_evaluation_within_a_run_have_it_too(heeded):
    init = read_images(list(range(4)), [0, 1], 2, 2).worker_init_fn
    assert init.func is ignore_signals
    assert init.keywords == {'numbers': (signal.SIGUSR1, ), 'before': None}


def test_where_nothing_is_answered_a_loader_stays_as_it_is():
    assert loader_processes.answered == set()
    assert outlive_signals(DataLoader(range(4))).worker_init_fn is None
