"""The layout of the house, kept by machine: mirrored tests, arrows between rooms, size of files, habits."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mm_graft'
ROOMS = {'models', 'engine', 'datasets', 'evaluation', 'analysis'}
DOORS = {'commands'}  # above all rooms: may import any of them
FLOOR = {path.stem for path in PACKAGE.glob('*.py')} | {'checkpoints', 'host'}
# which sibling folders of models a folder of models may import, besides the single files of models that all share
WITHIN_MODELS = {
    'selfsup': {'losses', 'targets', 'masks'},
    'necks': {'losses', 'targets', 'masks'},
    'heads': {'losses', 'targets', 'masks'},
}
SHARED_BY_MODELS = {path.stem for path in (PACKAGE / 'models').glob('*.py')}
SOURCES = sorted(path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts)
MODULES = [path for path in SOURCES if path.name != '__init__.py']
SCRIPTS = [path for folder in ('tools', 'benchmarks', 'experiments', 'tests')
           for path in sorted(ROOT.glob(f'{folder}/**/*.py'))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Dotted names below mm_graft that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.update({node.module, *(f'{node.module}.{alias.name}' for alias in node.names)})
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.removeprefix('mm_graft.') for name in names if name.startswith('mm_graft.')}


@pytest.mark.parametrize('path', [path for path in MODULES if path.stem != 'version'], ids=relative)
def test_every_module_has_a_test_at_the_same_place(path):
    place = path.relative_to(PACKAGE)
    assert (ROOT / 'tests' / place.parent / f'test_{place.name}').is_file()


@pytest.mark.parametrize('path', SOURCES, ids=relative)
def test_a_room_imports_the_floor_and_no_other_room(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    allowed = FLOOR | ROOMS | DOORS if room in DOORS else FLOOR | ({room} if room in ROOMS else set())
    assert {name.split('.')[0] for name in imports(path)} <= allowed


@pytest.mark.parametrize('path', sorted((PACKAGE / 'models').rglob('*.py')), ids=relative)
def test_within_models_arrows_go_one_way(path):
    folder = path.relative_to(PACKAGE / 'models').parts[0].removesuffix('.py')
    imported = {name.split('.')[1] for name in imports(path) if name.startswith('models.')}
    assert imported - {folder} - SHARED_BY_MODELS <= WITHIN_MODELS.get(folder, set())


@pytest.mark.parametrize('path', SOURCES + SCRIPTS, ids=relative)
def test_no_file_is_longer_than_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize('path', SOURCES, ids=relative)
def test_functions_fit_on_a_screen(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ''
            lines = node.end_lineno - node.lineno + 1 - (docstring.count('\n') + 1 if docstring else 0)
            assert lines <= 40, f'{node.name} has {lines} lines'


@pytest.mark.parametrize('path', SOURCES, ids=relative)
def test_the_package_keeps_its_habits(path):
    text = path.read_text()
    assert path.stem != 'utils'
    assert not re.search(r'\.cuda\(\)|^\s*print\(|^\s*assert ', text, re.MULTILINE)


def test_every_public_module_class_and_function_says_what_it_does():
    silent = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        nodes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
                         and not node.name.startswith('_'))]
        silent += [f'{relative(path)}:{getattr(node, "name", "")}' for node in nodes if not ast.get_docstring(node)]
    assert not silent
