"""docs/papers.md: each row has a state and a command or a reason, and the commands run, on small models."""

import re
import shlex
from collections import Counter
from importlib.util import find_spec

import pytest

from mm_graft.commands.configs import load_config
from mm_graft.commands.main import build_parser
from tests.docs.papers import ROWS, sections
from tests.docs.sandbox import Sandbox, made_small

STATES = re.compile(r'(ready|small)\b|(part|not here): \S')
COMMANDS = [command for row in ROWS for command in row.commands]


def parsed(command):
    """The arguments of a command line, with the launcher taken off."""
    words = shlex.split(command)
    if words[0] == 'tools/dist_train.sh':
        config, devices, *rest = words[1:]
        assert int(devices) > 0
        words = ['mm_graft', 'train', config, *rest]
    elif words[0] == 'torchrun':
        tool = next(index for index, word in enumerate(words) if word.startswith('tools/'))
        words = ['mm_graft', words[tool].removeprefix('tools/').removesuffix('.py'), *words[tool + 1:]]
    assert words[0] == 'mm_graft'
    return build_parser().parse_args(words[1:])


def can_run(command):
    """Detection has an environment of its own, where tests/detection runs each of its configs."""
    return 'configs/detection/' not in command or find_spec('mmdet') is not None


def test_every_paper_is_there():
    assert {title: len(rows) > 8 for title, rows in sections().items()} == dict.fromkeys(
        ('Layer grafting', 'ConMIM', 'LocalMIM and ViTFreeze', 'MAE, then weak supervision'), True)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.item)
def test_a_row_has_a_state_and_a_command_or_a_reason(row):
    found = STATES.match(row.state)
    assert found, row.state
    assert row.commands or found[2], f'{row.item} has no command, so its state says why: part or not here'


def test_no_row_is_there_twice():
    for rows in sections().values():
        assert [item for item, count in Counter(row.item for row in rows).items() if count > 1] == []
    assert [command for command, count in Counter(COMMANDS).items() if count > 1] == []


@pytest.mark.parametrize('command', [command for command in COMMANDS if not command.startswith('python -m')])
def test_a_command_is_understood_and_its_config_takes_the_overrides(command):
    args = parsed(command)
    if args.config is not None and can_run(command):
        load_config(args.config, args.cfg_options)


@pytest.mark.docs
@pytest.mark.parametrize('title', list(sections()))
def test_the_commands_of_a_paper_run(title, tmp_path):
    sandbox, failed = Sandbox(tmp_path), []
    for command in dict.fromkeys(made_small(command, processes=1) for row in sections()[title]
                                 for command in row.commands):
        done = sandbox.run(command) if can_run(command) else None
        if done and done.returncode:
            failed.append(f'{command}\n{done.stdout[-3000:]}')
    assert not failed, '\n\n'.join(failed)
