"""Runs that an experiment would start."""

import json
from pathlib import Path

import pytest

from experiments import training
from mm_graft.commands.configs import load_config


def leave_what_a_run_leaves(command):
    """The files of a training, or of an evaluation, that a sweep reads."""
    if '--protocols' in command:
        folder, name = (Path(command[command.index(word) + 1]) for word in ('--out', '--protocols'))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'report.json').write_text(json.dumps({'protocols': {str(name): {'top1': 10.0}}}))
        return
    config = next(word for word in command if word.endswith('.py') and 'configs' in word)
    folder = Path(command[command.index('--work-dir') + 1])
    short = 'max_epochs=1' in command
    epochs = 1 if short else load_config(config).train_cfg.max_epochs
    (folder / 'now/vis_data').mkdir(parents=True, exist_ok=True)
    (folder / 'last_checkpoint').write_text(f'{folder}/epoch_{epochs}.pth\n')
    (folder / 'now/vis_data/scalars.json').write_text(json.dumps({'accuracy/top1': 20.0, 'step': epochs}))


@pytest.fixture
def started(monkeypatch):
    """The commands that a sweep starts; none of them runs, each leaves what it would leave."""
    commands = []

    def fake(command):
        commands.append(command)
        leave_what_a_run_leaves(command)

    monkeypatch.setattr(training, 'run', fake)
    return commands
