"""Converting, publishing and exporting by the commands."""

import importlib.util
from pathlib import Path

import pytest

from mm_graft.checkpoints import LAYOUT_NAMES, detect_layout, read_checkpoint
from mm_graft.checkpoints.files import read_provenance
from mm_graft.commands import convert
from tests.tiny import VIT, mae_file, recorded_checkpoint

INSTALLED = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxruntime', 'onnxscript'))


def test_every_layout_that_is_known_can_be_named():
    assert set(convert.LAYOUTS) == set(LAYOUT_NAMES)


def test_a_file_is_converted_and_what_is_left_out_is_told(run, tmp_path):
    source = mae_file(tmp_path / 'mae.pth')
    told = run('convert', 'layout', source, tmp_path / 'new.safetensors', '--from', 'mae', '--to', 'timm',
               '--grid', 2, 3)
    assert 'decoder_norm.weight' in told
    assert 'mask_token' in told
    assert read_checkpoint(tmp_path / 'new.safetensors')['pos_embed'].shape == (1, 7, 16)
    assert read_provenance(tmp_path / 'new.safetensors')['grid'] == [2, 3]


def test_without_kinds_it_is_detected_and_becomes_mmpretrains(run, tmp_path):
    run('convert', 'layout', mae_file(tmp_path / 'mae.pth'), tmp_path / 'new.pth')
    assert detect_layout(read_checkpoint(tmp_path / 'new.pth')) == 'mmpretrain'


@pytest.mark.parametrize(('arguments', 'message'), [
    (('--from', 'mocov3'), 'are not those of moco v3'), (('--branch', 'momentum'), 'no momentum encoder'),
    (('--to', 'localmim'), 'localmim'), (('--to', 'conmim'), 'encoder')])
def test_a_wrong_request_is_one_line_and_no_file(run, tmp_path, capsys, arguments, message):
    source = mae_file(tmp_path / 'mae.pth')
    with pytest.raises(SystemExit) as stop:
        run('convert', 'layout', source, tmp_path / 'new.pth', *arguments)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert message in error.lower()
    assert [path.name for path in tmp_path.iterdir()] == ['mae.pth']


def test_the_encoder_is_published_under_its_hash(run, tmp_path):
    path = Path(run('convert', 'publish', mae_file(tmp_path / 'mae.pth'), tmp_path / 'out', '--name', 'x').strip())
    assert path.name.startswith('x-')
    assert all(name.startswith('backbone.') for name in read_checkpoint(path))


@pytest.mark.skipif(not INSTALLED, reason='needs requirements/export.txt')
def test_an_encoder_is_exported_and_checked(run, tmp_path):
    (tmp_path / 'config.py').write_text(f'model = dict(backbone=dict(type="VisionTransformer", **{VIT}))\n')
    told = run('convert', 'onnx', tmp_path / 'config.py', mae_file(tmp_path / 'mae.pth'), tmp_path / 'a.onnx')
    assert 'differs from PyTorch by' in told
    assert (tmp_path / 'a.onnx').stat().st_size > 1000
    told = run('convert', 'onnx', recorded_checkpoint(tmp_path / 'own.pth'), tmp_path / 'own.onnx')
    assert '32 × 32 pixels; differs from PyTorch by' in told


@pytest.mark.skipif(INSTALLED, reason='they are installed')
def test_export_without_its_packages_names_them(run, tmp_path, capsys):
    (tmp_path / 'config.py').write_text(f'model = dict(backbone=dict(type="VisionTransformer", **{VIT}))\n')
    with pytest.raises(SystemExit):
        run('convert', 'onnx', tmp_path / 'config.py', mae_file(tmp_path / 'mae.pth'), tmp_path / 'a.onnx')
    assert 'requirements/export.txt' in capsys.readouterr().err
