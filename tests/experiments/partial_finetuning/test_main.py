"""The command as a user would give it, run inside this process; what it starts is looked at, not run."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

CONFIG = str(Path(__file__).parents[3] / 'configs/eval/finetune_vit-b.py')


@pytest.fixture
def call(tmp_path, monkeypatch, started):
    """Run the tool on two checkpoints; gives the commands that it started."""
    for name in ('graft/epoch_300.pth', 'mae.pth'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def run(*options):
        started.clear()
        monkeypatch.setattr(sys, 'argv', ['partial', CONFIG, str(tmp_path / 'graft/epoch_300.pth'),
                                          str(tmp_path / 'mae.pth'), '--work-dir', str(tmp_path / 'out'), *options])
        runpy.run_module('experiments.partial_finetuning', run_name='__main__')
        return list(started)

    return run


def test_every_encoder_is_tuned_above_every_number_of_frozen_blocks_once(call, tmp_path):
    commands = call('--frozen', '0', '8')
    assert [command[command.index('--init') + 1] for command in commands] == [
        str(tmp_path / name) for name in ('graft/epoch_300.pth', 'mae.pth') * 2]
    assert ['model.backbone.frozen_stages=8' in command for command in commands] == [False, False, True, True]
    assert json.loads((tmp_path / 'out/curve.json').read_text()) == {
        name: {'0': 20.0, '8': 20.0} for name in ('graft', 'mae')}
    assert Image.open(tmp_path / 'out/curve.png').format == 'PNG'
    more = call('--frozen', '0', '6', '8')
    assert [command[-1] for command in more] == ['model.backbone.frozen_stages=6'] * 2


def test_the_default_goes_from_full_fine_tuning_to_the_head_alone(call, capsys):
    assert call('--dry-run', '--gpus', '8', '--cfg-options', 'max_epochs=50') == []
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('env ')]  # beside the host's log
    assert [line.split()[-1] for line in lines[::2]] == ['max_epochs=50', *(
        f'model.backbone.frozen_stages={frozen}' for frozen in (2, 4, 6, 8, 10, 12))]
    assert all('dist_train.sh' in line and 'max_epochs=50' in line for line in lines)


@pytest.mark.parametrize(('options', 'line'), [
    (('--frozen', '13'), 'has 12 blocks; give numbers from 0 to 12'),
    (('--names', 'one'), "2 checkpoints need as many different names, not ['one']; give --names"),
    (('--names', 'one', 'one'), 'different names')])
def test_what_cannot_be_drawn_is_refused_before_anything_starts(call, capsys, started, options, line):
    with pytest.raises(SystemExit):
        call(*options)
    assert started == []
    assert line in capsys.readouterr().err
