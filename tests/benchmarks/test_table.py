"""The rows of the speed table are what they are called, and the table is made end to end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from benchmarks.table import COLUMNS, CONFIGS, Variant, cells, config_of, markdown, variants
from mm_graft.analysis.param_table import build_on_meta
from tests.own_process import SECONDS

ROOT = Path(__file__).parents[2] / 'configs'
ROW = dict(ms_per_step=50., images_per_s=80., gflops_per_image=3., share_of_peak=.25, ddp_mib_per_step=7.,
           saved_activation_mib_per_image=1.5, peak_memory_mib=900., batch=4, img_size=64, dtype='float32',
           device='cpu (1 threads)', torch='2', matmul_peak_tflops=.1)


def configure(method, variant, on_gpu=False):
    return config_of(Config.fromfile(ROOT / CONFIGS[method]), method, variant, 'tiny', 6, on_gpu)


def build(method, variant):
    cfg = configure(method, variant)
    return cfg, build_on_meta(cfg)[0]


@pytest.mark.parametrize('method', CONFIGS)
def test_plain_is_the_hosts_and_the_rest_is_ours(method):
    plain, ours = (build(method, variant) for variant in (Variant('', plain=True), Variant('')))
    assert plain[0].optim_wrapper.constructor == 'DefaultOptimWrapperConstructor'
    assert ours[0].optim_wrapper.constructor == 'mm_graft.GraftOptimWrapperConstructor'
    if method != 'LocalMIM':
        assert type(plain[1].backbone).__module__.startswith('mmpretrain')
        assert type(ours[1].backbone).__module__.startswith('mm_graft')
    trained = [sum(param.numel() for param in model.parameters() if param.requires_grad) for _, model in (plain, ours)]
    assert trained[0] == pytest.approx(trained[1], rel=.02)  # the host trains a position embedding, a mask token …


def test_gpus_compute_in_bf16():
    assert configure('MAE', Variant(''), on_gpu=True).optim_wrapper.type == 'mm_graft.AutocastOptimWrapper'
    assert configure('MAE', Variant('', plain=True), on_gpu=True).optim_wrapper.dtype == 'bfloat16'


def test_only_the_graft_reads_nothing_but_the_class_token():
    lean = {method: any(variant.lean for variant in variants(method, 12)) for method in CONFIGS}
    assert lean == {'MAE': False, 'MoCo v3': True, 'ConMIM': False, 'LocalMIM': False}
    assert build('MoCo v3', Variant('', lean=True))[1].backbone.class_token_only


def test_what_is_added_stays_and_freezing_comes_last():
    rows = variants('MAE', 12)
    assert [row.frozen for row in rows] == [0, 0, 0, 0, 4, 8, 12]
    assert [len(row.hooks) for row in rows] == [0, 0, 1, 2, 2, 2, 2]
    assert variants('LocalMIM', 12)[-1].frozen == 11
    assert len(variants('MAE', 12, compiled=False)) == 6


def test_a_table_has_a_cell_for_each_column():
    text = markdown('MAE', [('plain', ROW), ('ours', {**ROW, 'speedup': 2., 'speedup_quartiles': [1.5, 2.5]})])
    lines = text.splitlines()
    assert lines[0] == '### MAE'
    assert lines[-1] == '| ours | 50 | 80 | 2.00 (1.50–2.50) | 3.0 | 25% | 1.5 | 7 | – |'
    assert {line.count('|') for line in lines if line.startswith('|')} == {len(COLUMNS) + 1}
    assert cells({**ROW, 'device': 'GPU'})[-1] == '900'


def test_a_table_and_its_numbers_are_written(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'mm_graft', 'benchmark', 'table', '--out', tmp_path, '--methods', 'MAE', '--width',
         'tiny', '--blocks', '3', '--batch', '2', '--img-size', '32', '--steps', '1', '--warmup', '1', '--no-compile',
         '--device', 'cpu'], cwd=ROOT.parent, text=True, capture_output=True, timeout=SECONDS,
        env={**os.environ, 'PYTHONPATH': str(ROOT.parent)})
    assert done.returncode == 0, done.stderr
    rows = dict(json.loads((tmp_path / 'speed.json').read_text())['MAE'])
    assert list(rows)[:2] == ['plain host', 'mm_graft as its config is']
    assert rows['3 of 3 blocks frozen']['gflops_per_image'] < rows['mm_graft as its config is']['gflops_per_image']
    assert '| plain host |' in (tmp_path / 'speed.md').read_text()
