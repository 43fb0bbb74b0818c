"""The layout of the house, kept by machine: mirrored tests, arrows between rooms, size of files, habits."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mm_graft'
ROOMS = {'models', 'engine', 'datasets', 'evaluation', 'analysis'}
ABOVE = {'commands', '__main__'}  # may import any room
FLOOR = {path.stem for path in PACKAGE.glob('*.py')} | {'checkpoints', 'host'}
# which sibling folders of models a folder of models may import, besides the single files of models that all share
WITHIN_MODELS = {
    'selfsup': {'losses', 'targets', 'masks'},
    'necks': {'losses', 'targets', 'masks'},
    'heads': {'losses', 'targets', 'masks'},
}
SHARED_BY_MODELS = {path.stem for path in (PACKAGE / 'models').glob('*.py')}
# what others define and objects are given anew only in host/; and the one private name that has no public twin
METHODS = {name for kind in (nn.Module, Dataset, DataLoader, Hook, OptimWrapper, BaseLoop, EpochBasedTrainLoop, Runner)
           for name in dir(kind) if callable(getattr(kind, name))} | {
               '__getitems__', 'init_weights', 'parse_losses'}
NAMED_TUPLES = {'_asdict', '_fields', '_replace'}
ALLOWED_PRIVATE = {'mm_graft/checkpoints/unpickler.py: pickle._Unpickler'}  # the one that is written in Python
# a copy that only MMEngine reads; what processes tell each other
ALLOWED_WRITES = {'mm_graft/host/config_variables.py: path.write_text', 'mm_graft/evaluation/frozen.py: np.savez'}
BRITISH = re.compile(
    r"colour|behaviour|neighbour(?!s'])|\bgrey|\bcentre|"  # the files of golden numbers have one such name
    r'(general|initial|maxim|minim|normal|optim|organ|recogn|regular|solar|standard|synchron|token|vector|visual)is'
    r'(e|ing|ation)', re.IGNORECASE)
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


def test_every_module_has_a_test_at_the_same_place():
    places = [path.relative_to(PACKAGE) for path in MODULES if path.stem not in ('version', '__main__')]
    assert [place for place in places if not (ROOT / 'tests' / place.parent / f'test_{place.name}').is_file()] == []


def test_a_room_imports_the_floor_and_no_other_room():
    wrong = []
    for path in SOURCES:
        room = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
        allowed = FLOOR | ROOMS | ABOVE if room in ABOVE else FLOOR | ({room} & ROOMS)
        wrong += [f'{relative(path)} imports {name}' for name in imports(path) if name.split('.')[0] not in allowed]
    assert wrong == []


def test_within_models_arrows_go_one_way():
    wrong = []
    for path in sorted((PACKAGE / 'models').rglob('*.py')):
        folder = path.relative_to(PACKAGE / 'models').parts[0].removesuffix('.py')
        imported = {name.split('.')[1] for name in imports(path) if name.startswith('models.')}
        wrong += [f'{relative(path)} imports models.{name}'
                  for name in imported - {folder} - SHARED_BY_MODELS - WITHIN_MODELS.get(folder, set())]
    assert wrong == []


def test_no_file_is_longer_than_300_lines():
    lengths = {relative(path): len(path.read_text().splitlines()) for path in SOURCES + SCRIPTS}
    assert {path: length for path, length in lengths.items() if length > 300} == {}


def test_functions_fit_on_a_screen():
    long = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ''
                lines = node.end_lineno - node.lineno + 1 - (docstring.count('\n') + 1 if docstring else 0)
                long += [f'{relative(path)}: {node.name} has {lines} lines'] if lines > 40 else []
    assert long == []


def test_the_package_keeps_its_habits():
    wrong = [f'{relative(path)}: {match}' for path in SOURCES
             for match in re.findall(r'\.cuda\(\)|^ *assert ', path.read_text(), re.MULTILINE)]
    wrong += [f'{relative(path)}: print' for path in SOURCES if path.parts[len(PACKAGE.parts)] not in ABOVE
              and re.search(r'^ *print\(', path.read_text(), re.MULTILINE)]
    assert wrong + [relative(path) for path in SOURCES if path.stem == 'utils'] == []


def test_only_the_room_host_reads_private_names_of_others_or_replaces_their_methods():
    foreign = [offence for path in SOURCES if 'host' not in path.parts for offence in private_accesses(path)]
    assert [offence for offence in foreign if offence not in ALLOWED_PRIVATE] == []


def test_no_name_belongs_to_half_a_file():
    sources = [path for path in SOURCES if path != PACKAGE / 'files.py']
    bare = [f'{relative(path)}: {call}' for path in sources for call in bare_writes(path)]
    assert [call for call in bare if call not in ALLOWED_WRITES] == []


def bare_writes(path: Path) -> Iterator[str]:
    """Calls that write to a file by themselves, outside `atomic_write` and `atomic_folder`."""
    tree = ast.parse(path.read_text())
    atomic = {inner for node in ast.walk(tree) if isinstance(node, ast.With)
              and any('atomic_' in ast.unparse(item) for item in node.items) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node not in atomic:
            name, text = ast.unparse(node.func), ast.unparse(node)
            written = re.search(r'\.(write_text|write_bytes|savefig)$|^(np|torch)\.save\w*$', name)
            opened = re.search(r'(^|\.)open$', name) and re.search(r"'[wax]b?\+?'", text)
            if (written or opened) and 'buffer' not in text:
                yield name


def private_accesses(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and not is_own(node.value):
            private = node.attr.startswith('_') and not node.attr.startswith('__') and node.attr not in NAMED_TUPLES
            replaced = (isinstance(node.ctx, ast.Store) and node.attr in METHODS
                        and not ast.unparse(node).startswith('cfg.'))
            if private or replaced:
                yield f'{relative(path)}: {ast.unparse(node)}' + ' = …' * replaced
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in {'getattr', 'setattr', 'hasattr'}:
            of, name = node.args[:2]
            if isinstance(name, ast.Constant) and re.match('_[^_]', name.value) and not is_own(of):
                yield f'{relative(path)}: {ast.unparse(node)}'
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f'{relative(path)}: {node.module}.{alias.name}' for alias in node.names
                        if re.match('_[^_]', alias.name)
                        and alias.name not in getattr(importlib.import_module(node.module), '__all__', ()))


def is_own(node: ast.expr) -> bool:
    """Whether an expression is the object itself, or its class or base."""
    return ast.unparse(node) in {'self', 'cls', 'super()'}


def test_spelling_is_that_of_the_libraries_around():
    pages = [page for folder in ('', 'docs/', 'configs/*/', 'experiments/**/') for page in ROOT.glob(f'{folder}*.md')]
    wrong = [f'{relative(path)}:{number}: {found[0]}' for path in SOURCES + SCRIPTS + pages if path != Path(__file__)
             for number, line in enumerate(path.read_text().splitlines(), 1) if (found := BRITISH.search(line))]
    assert wrong == []


def test_no_module_imports_one_that_imports_it():
    names = {'.'.join(path.relative_to(PACKAGE).with_suffix('').parts): path for path in MODULES}
    needed = {name: imports(path) & names.keys() for name, path in names.items()}
    while free := [name for name, others in needed.items() if not others & needed.keys()]:
        needed = {name: others for name, others in needed.items() if name not in free}
    assert needed == {}


def test_no_test_forks_itself():
    """Threads of the test process may hold locks: `tests/own_process.py` starts processes from a server without any."""
    forks = re.compile(r'os\.fork\(|start_processes\(')
    assert [str(path) for path in sorted((ROOT / 'tests').rglob('test_*.py')) if forks.search(path.read_text())] == []


def test_every_public_module_class_and_function_says_what_it_does():
    silent = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        nodes = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
                         and not node.name.startswith('_'))]
        silent += [f'{relative(path)}:{getattr(node, "name", "")}' for node in nodes if not ast.get_docstring(node)]
    assert silent == []


def test_contributing_draws_the_house_as_it_is():
    drawing = (ROOT / 'CONTRIBUTING.md').read_text().split('```text\n')[1].split('```')[0]
    drawn, above = set(), []
    for line in drawing.splitlines():
        name, depth = line.split()[0].rstrip('/'), (len(line) - len(line.lstrip())) // 2
        above = [*above[:depth], name]
        drawn.add('/'.join(above))
    hidden = ('__', '.')
    real = {path.name for path in ROOT.iterdir() if path.is_dir() and (ROOT / path.name).name in {
        'mm_graft', 'configs', 'tools', 'benchmarks', 'experiments', 'tests', 'docs', 'requirements'}}
    for folder in ('mm_graft', 'mm_graft/engine'):
        real |= {f'{folder}/{path.name}' for path in (ROOT / folder).iterdir() if not path.name.startswith(hidden)}
    assert drawn == real
