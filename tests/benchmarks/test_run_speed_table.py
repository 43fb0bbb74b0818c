"""The table of all changes, end to end on a tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_table_and_its_numbers_are_written(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'mm_graft', 'benchmark', 'table', '--out', tmp_path, '--methods', 'MAE', '--width',
         'tiny', '--blocks', '3', '--batch', '2', '--img-size', '32', '--steps', '1', '--warmup', '1', '--no-compile',
         '--device', 'cpu'], cwd=ROOT, text=True, capture_output=True, timeout=300,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stderr
    rows = dict(json.loads((tmp_path / 'speed.json').read_text())['MAE'])
    assert list(rows)[:2] == ['plain host', 'mm_graft as its config is']
    assert rows['3 of 3 blocks frozen']['gflops_per_image'] < rows['mm_graft as its config is']['gflops_per_image']
    assert '| plain host |' in (tmp_path / 'speed.md').read_text()
