"""What a training's log says about where it stands."""

import io
import signal
import subprocess
import sys
import time

import pytest

from experiments import training
from mm_graft import progress
from tests.own_process import SECONDS

LINE = ('11/21 11:42:35 - mmengine - INFO - Epoch(train)  [5][39/78]  base_lr: 7.1e-04 lr: 7.1e-04  eta: 0:02:19  '
        'time: 0.57  data_time: 0.01  loss: 0.5924\n')


def test_the_progress_bar_reads_the_training_log_and_copies_it():
    epoch, step, steps, loss = training.STEP.search(LINE).groups()
    assert (int(epoch), int(step), int(steps), float(loss)) == (5, 39, 78, 0.5924)
    copy = io.StringIO()
    training.follow([LINE, 'something else\n'], copy, 'MAE', 12)
    assert copy.getvalue() == LINE + 'something else\n'


def test_the_progress_of_a_run_by_iterations_is_their_number(capsys, monkeypatch):
    monkeypatch.setattr(progress, 'in_terminal', lambda: True)
    line = LINE.replace('Epoch(train)  [5][39/78]', 'Iter(train) [ 20/300]')
    training.follow([line], io.StringIO(), 'UperNet', 300)
    assert '20.0/300' in capsys.readouterr().err
    training.follow([LINE], io.StringIO(), 'MAE', 12)
    assert '4.5/12' in capsys.readouterr().err


def test_the_last_epoch_is_that_of_the_note_beside_the_checkpoints(tmp_path):
    assert training.last_epoch(tmp_path) == 0
    assert training.last_checkpoint(tmp_path) is None
    (tmp_path / 'last_checkpoint').write_text('somewhere/epoch_12.pth\n')
    assert training.last_epoch(tmp_path) == 12
    (tmp_path / 'last_checkpoint').write_text('somewhere/stopped.pth\n')
    assert training.last_epoch(tmp_path) == 0


def test_a_training_is_stopped_at_its_deadline_and_a_failed_one_is_an_error(tmp_path):
    talk = 'import time\nfor _ in range(600):\n    print("line", flush=True)\n    time.sleep(0.1)'
    start = time.monotonic()
    with pytest.raises(training.TimeUpError, match='MAE'):
        training.run_training([sys.executable, '-c', talk], tmp_path / 'log', 'MAE', 1, deadline=start)
    assert (tmp_path / 'log').read_text() == 'line\n'
    with pytest.raises(RuntimeError, match='status 3'):
        training.run_training([sys.executable, '-c', 'raise SystemExit(3)'], tmp_path / 'log', 'MAE', 1)


def test_a_command_is_run_to_its_end_and_its_failure_is_an_error():
    training.run([sys.executable, '-c', ''])
    with pytest.raises(subprocess.CalledProcessError, match='status 3'):
        training.run([sys.executable, '-c', 'raise SystemExit(3)'])


def test_a_training_ends_with_the_program_that_started_it(tmp_path):
    child = """
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path('ended').touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print('Epoch(train)  [1][1/2]  loss: 1.0', flush=True)
pathlib.Path('started').touch()
time.sleep(300)
"""
    parent = ('import pathlib, sys; from experiments.training import run_training; '
              f"run_training([sys.executable, '-c', {child!r}], pathlib.Path('log'), 'MAE', 1)")
    with subprocess.Popen([sys.executable, '-c', f'import sys; sys.path.insert(0, {str(training.ROOT)!r}); {parent}'],
                          cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / 'started').exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=SECONDS) == 128 + signal.SIGTERM
    assert (tmp_path / 'ended').exists()


def test_a_training_on_several_gpus_is_started_by_the_launcher(tmp_path):
    assert training.train_command('c.py', tmp_path, 3, ['a=1'])[1:] == [
        str(training.TOOLS / 'train.py'), 'c.py', '--work-dir', str(tmp_path), '--resume', '--cfg-options',
        'randomness.seed=3', 'a=1']
    command = training.train_command('c.py', tmp_path, gpus=4, flags=['--auto-scale-lr'])
    assert command[2:] == ['bash', str(training.TOOLS / 'dist_train.sh'), 'c.py', '4', '--auto-scale-lr', '--work-dir',
                           str(tmp_path), '--resume']
    assert (training.TOOLS / 'dist_train.sh').is_file()
