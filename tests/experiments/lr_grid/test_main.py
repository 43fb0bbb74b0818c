"""The command as a user would give it, run inside this process; what it starts is looked at, not run."""

import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / 'configs/graft/vit-b_mae2mocov3.py')
FINETUNE = str(ROOT / 'configs/eval/finetune_vit-b.py')
POINTS = 8


@pytest.fixture
def call(tmp_path, monkeypatch, started):
    """Run the tool on a grid of two multipliers; gives the commands that it started."""

    def run(*options, config=CONFIG):
        started.clear()
        monkeypatch.setattr(sys, 'argv', ['lr_grid', config, '--multipliers', '0.1', '1', '--work-dir', str(tmp_path),
                                          *options])
        runpy.run_module('experiments.lr_grid', run_name='__main__')
        return list(started)

    return run


def test_every_point_is_trained_and_evaluated_once_and_drawn(call, tmp_path):
    commands = call('--protocols', 'knn', '--cfg-options', 'max_epochs=1')
    assert len(commands) == 2 * POINTS
    train, evaluate = commands[:2]
    assert train[-2:] == ['max_epochs=1', 'optim_wrapper.paramwise_cfg.stage_lr_mult=[1,1,1]']
    assert '--resume' in train
    assert evaluate[3].endswith('1_1_1/epoch_1.pth')
    assert evaluate[-1] == 'max_epochs=1'
    assert Image.open(tmp_path / 'knn.png').format == 'PNG'
    assert call('--protocols', 'knn', '--cfg-options', 'max_epochs=1') == []
    (tmp_path / '0.1_1_1' / 'knn' / 'report.json').unlink()
    (tmp_path / '1_1_1' / 'knn' / 'report.json').unlink()
    (tmp_path / '1_1_1' / 'last_checkpoint').write_text('epoch_0.pth')  # interrupted
    kinds = [Path(command[1]).stem for command in call('--protocols', 'knn', '--cfg-options', 'max_epochs=1')]
    assert kinds == ['train', 'evaluate', 'evaluate']


def test_another_protocol_and_fine_tuning_use_the_trained_runs(call, tmp_path):
    call('--protocols', 'knn')
    protocols = [command[command.index('--protocols') + 1] for command in call('--protocols', 'knn', 'linear')]
    assert protocols == ['linear'] * POINTS
    tuning = call('--finetune', FINETUNE)
    assert {command[2] for command in tuning} == {FINETUNE}
    assert [command[command.index('--init') + 1] for command in tuning[:2]] == [
        str(tmp_path / '1_1_1' / 'epoch_300.pth'), str(tmp_path / '1_0.1_1' / 'epoch_300.pth')]
    assert [command[command.index('--work-dir') + 1] for command in tuning[:1]] == [str(tmp_path / '1_1_1/finetune')]
    assert len(tuning) == POINTS
    assert all(Image.open(tmp_path / f'{name}.png').format == 'PNG' for name in ('knn', 'linear', 'finetune'))
    assert call('--finetune', FINETUNE) == []


def test_a_panel_is_a_part_of_the_grid(call, capsys):
    commands = call('--protocols', 'knn', '--panels', '0.1')
    assert {command[-1].split(',')[-1] for command in commands if 'train.py' in command[1]} == {'0.1]'}
    assert 'knn.png: 4 of 8 runs' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call('--panels', '0.5')
    assert '--panels [0.5] are none of the multipliers [0.1, 1.0]' in capsys.readouterr().err


def test_a_run_that_fails_ends_the_grid_in_one_line(call, capsys, monkeypatch):
    monkeypatch.setattr('experiments.sweep.run', lambda *args: exec('raise ValueError("no device")'))
    with pytest.raises(SystemExit):
        call()
    assert 'error: no device' in capsys.readouterr().err


def test_a_dry_run_prints_what_is_left_and_starts_nothing(call, capsys):
    assert call('--dry-run', '--finetune', FINETUNE) == []
    lines = capsys.readouterr().out.splitlines()
    assert sum('stage_lr_mult=' in line for line in lines) == POINTS
    assert sum('--init CHECKPOINT' in line for line in lines) == POINTS


def test_runs_on_several_devices_go_through_the_launcher_with_a_scaled_rate(call, capsys):
    call('--dry-run', '--gpus', '8', '--auto-scale-lr')
    lines = capsys.readouterr().out.splitlines()
    assert all(f'dist_train.sh {CONFIG} 8 --auto-scale-lr --work-dir' in line for line in lines[::2])
    assert all('--nproc-per-node 8' in line and line.endswith('--launcher pytorch') for line in lines[1::2])
    call('--dry-run')
    told = capsys.readouterr().out
    assert not any(word in told for word in ('dist_train', '--auto-scale-lr', 'nproc', '--launcher'))


def test_a_config_without_three_stages_is_refused(call, capsys):
    with pytest.raises(SystemExit):
        call(config=str(ROOT / 'configs/graft/vit-b_mae.py'))
    assert 'has 1 stages' in capsys.readouterr().err
