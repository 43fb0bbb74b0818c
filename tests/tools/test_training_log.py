"""What a training's log says about where it stands."""

import io
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINE = ('11/21 11:42:35 - mmengine - INFO - Epoch(train)  [5][39/78]  base_lr: 7.1e-04 lr: 7.1e-04  eta: 0:02:19  '
        'time: 0.57  data_time: 0.01  loss: 0.5924\n')


@pytest.fixture
def log(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import training_log
    yield training_log
    sys.modules.pop('training_log', None)


def test_the_progress_bar_reads_the_training_log_and_copies_it(log):
    epoch, step, steps, loss = log.STEP.search(LINE).groups()
    assert (int(epoch), int(step), int(steps), float(loss)) == (5, 39, 78, 0.5924)
    copy = io.StringIO()
    log.follow([LINE, 'something else\n'], copy, 'MAE', 12)
    assert copy.getvalue() == LINE + 'something else\n'


def test_the_last_epoch_is_that_of_the_note_beside_the_checkpoints(log, tmp_path):
    assert log.last_epoch(tmp_path) == 0
    assert log.last_checkpoint(tmp_path) is None
    (tmp_path / 'last_checkpoint').write_text('somewhere/epoch_12.pth\n')
    assert log.last_epoch(tmp_path) == 12
    (tmp_path / 'last_checkpoint').write_text('somewhere/stopped.pth\n')
    assert log.last_epoch(tmp_path) == 0


def test_a_training_is_stopped_at_its_deadline_and_a_failed_one_is_an_error(log, tmp_path):
    talk = 'import time\nfor _ in range(600):\n    print("line", flush=True)\n    time.sleep(0.1)'
    start = time.monotonic()
    with pytest.raises(log.TimeUpError, match='MAE'):
        log.run_training([sys.executable, '-c', talk], tmp_path / 'log', 'MAE', 1, deadline=start)
    assert (tmp_path / 'log').read_text() == 'line\n'
    with pytest.raises(RuntimeError, match='status 3'):
        log.run_training([sys.executable, '-c', 'raise SystemExit(3)'], tmp_path / 'log', 'MAE', 1)


def test_a_copy_of_this_process_runs_a_function_and_its_output_goes_into_the_log(log, tmp_path):
    log.run_forked(lambda: print('hello'), tmp_path / 'log', 'copy')
    assert (tmp_path / 'log').read_text() == 'hello\n'
    with pytest.raises(RuntimeError, match='status 1'):
        log.run_forked(lambda: 1 / 0, tmp_path / 'log', 'copy')
    assert 'ZeroDivisionError' in (tmp_path / 'log').read_text()
    with pytest.raises(RuntimeError, match='status 4'):
        log.run_forked(lambda: sys.exit(4), tmp_path / 'log', 'copy')


def test_a_copy_is_stopped_at_its_deadline(log, tmp_path):
    def talk():
        while True:
            print('line', flush=True)
            time.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(log.TimeUpError, match='copy'):
        log.run_forked(talk, tmp_path / 'log', 'copy', deadline=start + 0.2)
    assert time.monotonic() - start < 60
