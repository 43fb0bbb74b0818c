"""The command draws, for FreezeOut and for plain stages, and turns wrong input into one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FREEZEOUT = 'configs/freezeout/localmim-freezeout_vit-base-p16_8xb256-amp-100e_in1k.py'


def plot(*args):
    return subprocess.run([sys.executable, 'tools/plot_schedule.py', *map(str, args)], cwd=ROOT, text=True,
                          capture_output=True, check=False, env=os.environ | {'PYTHONPATH': str(ROOT)})


@pytest.mark.slow
@pytest.mark.parametrize('config', [FREEZEOUT, 'configs/graft/vit-b_mae2mocov3.py'])
def test_a_config_becomes_a_picture(tmp_path, config):
    done = plot(config, '--out', tmp_path / 'deep' / 'F.png', '--iters-per-epoch', 5)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'deep' / 'F.png').read_bytes().startswith(b'\x89PNG')
    assert ('depth  0 freezes at epoch 51.4' in done.stdout) == (config == FREEZEOUT)


def test_a_missing_config_is_one_line(tmp_path):
    done = plot('configs/none.py', '--out', tmp_path / 'F.png')
    assert done.returncode == 1
    assert 'configs/none.py does not exist' in done.stderr
    assert 'Traceback' not in done.stderr
