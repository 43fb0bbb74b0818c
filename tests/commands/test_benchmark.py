import json
import sys
from pathlib import Path

import pytest

from benchmarks.table import CONFIGS, WIDTHS
from mm_graft.commands import benchmark
from mm_graft.commands.main import build_parser

DEMO = Path(__file__).parents[2] / 'experiments' / 'demo' / 'configs'
GRAFT, MOCO = str(DEMO / 'graft.py'), str(DEMO / 'mocov3')


@pytest.fixture(autouse=True)
def _path_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, 'path', sys.path.copy())


def test_a_step_is_measured_against_another_and_written_as_json(tmp_path, run):
    file = tmp_path / 'step.json'
    told = run('benchmark', 'step', GRAFT, '--batch', 2, '--steps', 2, '--warmup', 1, '--freeze', 2,
               '--device', 'cpu', '--vs', MOCO, '--json', file)
    result = json.loads(file.read_text())
    assert set(result) >= {'images_per_s', 'ms_per_step', 'phases_ms', 'gflops_per_image', 'peak_memory_mib',
                           'saved_activation_mib_per_image', 'share_of_peak', 'batch', 'device', 'vs'}
    assert set(result['phases_ms']) >= {'preprocess', 'forward', 'backward', 'optimizer', 'ema'}
    assert (result['batch'], result['frozen_blocks'], result['steps']) == (2, 2, 2)
    assert (result['config'], result['vs']['other']['config']) == (GRAFT, MOCO)
    assert result['vs']['speedup'] > 0
    rows = {cells[0]: cells[1:] for line in told.splitlines() if line.startswith('|')
            if (cells := [cell.strip() for cell in line.strip('|').split('|')])}
    other = result['vs']['other']
    assert rows['config'] == [GRAFT, MOCO]
    assert rows['images_per_s'] == [f'{result["images_per_s"]:.5g}', f'{other["images_per_s"]:.5g}']
    assert rows['phases_ms ema'] == [f'{each["phases_ms"]["ema"]:.5g}' for each in (result, other)]
    assert rows['vs speedup'] == [f'{result["vs"]["speedup"]:.5g}', '']


def test_what_cannot_be_measured_is_one_line(refused, config):
    line = refused('benchmark', 'step', GRAFT, '--freeze', 99, '--device', 'cpu', '--batch', 2)
    assert 'choose 1…6' in line
    line = refused('benchmark', 'loader', config, '--cfg-options', 'train_dataloader.dataset.data_root=no/where')
    assert 'data folder no/where (train_dataloader.' in line


def test_the_table_knows_the_methods_and_widths_of_the_benchmarks():
    assert set(benchmark.METHODS) == set(CONFIGS)
    for width in WIDTHS:
        assert build_parser('benchmark').parse_args(['table', '--out', 'x', '--width', width]).width == width
