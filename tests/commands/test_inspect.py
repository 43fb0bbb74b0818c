import json
import re

import pytest

FREEZEOUT = 'freezeout/localmim-freezeout_vit-base-p16_8xb256-amp-100e_in1k'


def test_parameters_have_the_promised_keys(config, tmp_path, run):
    place = tmp_path / 'new' / 'table.json'
    told = run('inspect', 'params', config, '--json', place)
    table = json.loads(place.read_text())
    assert all({'name', 'depth', 'stage', 'lr_mult', 'weight_decay', 'trained'} <= set(row) for row in table)
    assert {row['stage'] for row in table} == {None, 1, 2}
    assert 'not trained' in told


def test_every_parameter_can_be_listed(config, run):
    told = run('inspect', 'params', config, '--all')
    assert 'momentum_encoder' in told
    assert told.count('layers.0.ln1.weight') == 2  # of the encoder and of the momentum encoder


@pytest.mark.slow
@pytest.mark.parametrize('config', [FREEZEOUT, 'graft/vit-b_mae2mocov3'])
def test_a_schedule_becomes_a_picture(tmp_path, config, run):
    told = run('inspect', 'schedule', config, '--out', tmp_path / 'deep' / 'F.png', '--iters-per-epoch', 5)
    assert (tmp_path / 'deep' / 'F.png').read_bytes().startswith(b'\x89PNG')
    assert ('depth  0 freezes at epoch 51.4' in told) == (config == FREEZEOUT)


def test_a_schedule_is_added_up(tmp_path, run):
    """Depth i of 12 trains (0.65 + 0.35 i / 12)³ of 40 iterations; a frozen block costs a third of a trained one."""
    words = ('inspect', 'schedule', 'graft/vit-b_mae2mocov3_freezeout', '--out', tmp_path / 'F.png',
             '--iters-per-epoch', 4)
    options = ('--cfg-options', 'max_epochs=10', 'param_scheduler.warmup=0')
    told = run(*words, '--seconds-per-step', 90, *options)
    frozen_at = dict(re.findall(r'depth +(\d+) freezes at epoch ([\d.]+)', told))
    assert 'rates over 40 iterations (4 an epoch, assumed)' in told
    assert [frozen_at[depth] for depth in ('0', '1', '11')] == ['2.75', '3.25', '9.25']
    assert len(frozen_at) == 12
    lines = told.splitlines()
    assert lines[-2].startswith('the whole run: 75.4% of the FLOPs of the encoder without freezing; 63.1% of the')
    assert lines[-1].startswith('expected: 0.75 hours in place of 1.00,')
    assert 'expected' not in run(*words, *options)


def test_the_doctor_prints_everything_and_says_what_to_fix(tmp_path, capsys, run):
    with pytest.raises(SystemExit) as end:
        run('inspect', 'doctor', '--data', tmp_path)
    text = capsys.readouterr().out
    assert end.value.code == 1
    assert 'WRONG data' in text
    assert 'data: give the folder above the images' in text


def test_the_doctor_speaks_json(capsys, run):
    with pytest.raises(SystemExit) as end:
        run('inspect', 'doctor', '--json')
    report = json.loads(capsys.readouterr().out)
    assert report['ok'] is (end.value.code == 0)
    names = [check['name'] for check in report['checks']]
    assert {'python', 'torch', 'torchvision', 'mmengine', 'mmpretrain', 'devices', 'distributed', 'disk'} <= set(names)
    assert all({'name', 'value', 'ok', 'fix'} == set(check) for check in report['checks'])
