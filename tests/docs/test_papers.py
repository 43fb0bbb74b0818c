"""docs/papers.md: each row has a state and a command or a reason, and the commands run, on small models."""

import re
import shlex
import shutil
from collections import Counter
from importlib.util import find_spec

import pytest

from mm_graft.commands.configs import load_config
from mm_graft.commands.main import build_parser
from tests.docs.forked import run_words
from tests.docs.papers import ROWS, sections
from tests.docs.sandbox import ELSEWHERE, Sandbox, made_small

STATES = re.compile(r'(ready|small)\b|(part|not here): \S')
COMMANDS = [command for row in ROWS for command in row.commands]


def words_of(command):
    """The arguments of mm_graft in a command line, with the launcher taken off; None for an experiment."""
    words = shlex.split(command)
    if words[0] == 'tools/dist_train.sh':
        config, devices, *rest = words[1:]
        assert int(devices) > 0
        return ['train', config, *rest]
    if words[0] == 'torchrun':
        return [words[3].removeprefix('tools/').removesuffix('.py'), *words[4:]]
    return words[1:] if words[0] == 'mm_graft' else None


def can_run(command):
    """Detection has an environment of its own, where tests/detection makes a step of each of its configs."""
    return not command.startswith(ELSEWHERE) and 'configs/detection/' not in command


def test_every_command_runs_here_except_those_of_detection():
    assert [command for command in COMMANDS if not can_run(command)] == [
        command for command in COMMANDS if 'configs/detection/' in command]


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


@pytest.mark.parametrize('command', [command for command in COMMANDS if words_of(command)])
def test_a_command_is_understood_and_its_config_takes_the_overrides(command):
    args = build_parser().parse_args(words_of(command))
    if args.config is not None and ('configs/detection/' not in command or find_spec('mmdet') is not None):
        load_config(args.config, args.cfg_options)


@pytest.fixture(scope='module')
def sandbox(tmp_path_factory):
    return Sandbox(tmp_path_factory.mktemp('papers'))


@pytest.mark.docs
@pytest.mark.parametrize('command', [pytest.param(command, id=f'{title}: {row.item} {place}')
                                     for title, rows in sections().items() for row in rows
                                     for place, command in enumerate(row.commands, 1) if can_run(command)])
def test_a_command_runs_on_small_models(command, sandbox):
    """In one process each, by the launcher where weights are sharded; what stands on the pages starts several."""
    shutil.rmtree(sandbox.folder / 'work_dirs', ignore_errors=True)  # rows run in any order, and none needs another
    small = made_small(command, processes=1)
    words, log = words_of(small.replace('--launcher pytorch', '')), sandbox.folder / 'log.txt'
    if words is None or '_fsdp' in small:
        done = sandbox.run(small)
        status, told = done.returncode, done.stdout
    else:
        sandbox.provide(small)
        status, told = run_words(words, sandbox.folder, log), log.read_text()
    assert status == 0, f'{small}\n{told[-3000:]}'
