"""What a training's log says about where it stands."""

import io
import sys
import time

import pytest

from experiments import training

LINE = ('11/21 11:42:35 - mmengine - INFO - Epoch(train)  [5][39/78]  base_lr: 7.1e-04 lr: 7.1e-04  eta: 0:02:19  '
        'time: 0.57  data_time: 0.01  loss: 0.5924\n')


def test_the_progress_bar_reads_the_training_log_and_copies_it():
    epoch, step, steps, loss = training.STEP.search(LINE).groups()
    assert (int(epoch), int(step), int(steps), float(loss)) == (5, 39, 78, 0.5924)
    copy = io.StringIO()
    training.follow([LINE, 'something else\n'], copy, 'MAE', 12)
    assert copy.getvalue() == LINE + 'something else\n'


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
