"""Every command of README and docs is run as it stands there, on small models and few images."""

import re
import shlex
from pathlib import Path

import pytest

from mm_graft.commands.main import build_parser
from tests.docs.sandbox import ELSEWHERE, ROOT, Sandbox, commands, fingerprint, made_small

PAGES = sorted([ROOT / 'README.md', *(ROOT / 'docs').glob('*.md'), *(ROOT / 'configs').rglob('README.md'),
                *(ROOT / 'experiments').rglob('README.md')])


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope='module')
def _checkout_stays_as_it_is():
    before = fingerprint()
    yield
    after = fingerprint()
    assert [path for path in before | after if before.get(path) != after.get(path)] == []


def test_nothing_that_a_command_writes_lands_in_the_checkout(tmp_path):
    sandbox = Sandbox(tmp_path)
    written = [f'{folder}/written_by_a_command.txt' for folder in ('docs/images', 'configs', 'tools', 'mm_graft')]
    assert sandbox.run(f'touch {" ".join(written)}').returncode == 0
    landed = [path for path in written if (ROOT / path).exists()]
    for path in landed:
        (ROOT / path).unlink()
    assert landed == []


@pytest.mark.docs
@pytest.mark.usefixtures('_checkout_stays_as_it_is')
@pytest.mark.parametrize('page', [page for page in PAGES if commands(page.read_text())], ids=relative)
def test_the_commands_of_a_page_run(page, tmp_path):
    sandbox = Sandbox(tmp_path)
    for command in commands(page.read_text()):
        if command.startswith(ELSEWHERE):
            continue
        done = sandbox.run(made_small(command))
        assert done.returncode == 0, f'{command}\n→ {made_small(command)}\n{done.stdout[-3000:]}'


def test_the_arguments_of_every_command_are_understood(capsys):
    """What the long test finds in minutes, where it is an argument that does not exist or a value that is refused."""
    refused = []
    for page, command in [(each, command) for each in PAGES for command in commands(each.read_text())]:
        program, *words = shlex.split(re.sub(r'\$\(.*?\)', 'OUTPUT', command))
        try:
            if program == 'mm_graft':
                build_parser().parse_args(words)
        except SystemExit as end:
            refused += [f'{relative(page)}: {command}: {capsys.readouterr().err}'] if end.code else []
    assert refused == []


@pytest.mark.parametrize('page', PAGES, ids=relative)
def test_targets_of_make_that_are_named_exist(page):
    targets = set(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M))
    assert set(re.findall(r'`?make ([a-z-]+)[`\s]', '\n'.join(commands(page.read_text())) + '\n')) <= targets


@pytest.mark.parametrize('page', PAGES, ids=relative)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r'\]\((?!https?://|#|mailto:)([^)#]+)', page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
