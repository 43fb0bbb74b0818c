"""The tool, end to end on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'experiments/demo/configs/graft.py'


def run(*args):
    return subprocess.run([sys.executable, ROOT / 'tools/benchmark.py', *map(str, args)], cwd=ROOT, text=True,
                          capture_output=True, timeout=120, env={**os.environ, 'PYTHONPATH': str(ROOT)})


def test_a_step_is_measured_against_another_and_written_as_json(tmp_path):
    file = tmp_path / 'step.json'
    done = run('step', CONFIG, '--batch', 2, '--steps', 2, '--warmup', 1, '--freeze', 2, '--device', 'cpu',
               '--vs', ROOT / 'experiments/demo/configs/mocov3.py', '--json', file)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert set(result) >= {'images_per_s', 'ms_per_step', 'phases_ms', 'gflops_per_image', 'peak_memory_mib',
                           'saved_activation_mib_per_image', 'share_of_peak', 'batch', 'device', 'vs'}
    assert set(result['phases_ms']) >= {'preprocess', 'forward', 'backward', 'optimizer', 'ema'}
    assert (result['batch'], result['frozen_blocks'], result['steps']) == (2, 2, 2)
    assert result['vs']['speedup'] > 0
    assert 'images_per_s' in done.stdout


def test_too_many_frozen_blocks_are_one_clear_line():
    done = run('step', CONFIG, '--freeze', 99, '--device', 'cpu', '--batch', 2)
    assert done.returncode == 1
    assert 'choose 1…6' in done.stderr
