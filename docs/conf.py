"""How `make docs` builds the pages: everything that stands in the repository, and an API page for each module."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mm_graft import __version__  # noqa: E402
from mm_graft.registry import MODELS  # noqa: E402

project = 'mm_graft'
author = 'The mm_graft authors'
release = version = __version__
root_doc = 'docs/index'

# the source folder is the root, so that every link between pages is the one that works on the code's host too
include_patterns = ['docs/*.md', 'docs/*.ipynb', 'docs/api/*.rst', 'configs/*/README.md',
                    'experiments/README.md', 'experiments/*/README.md', 'README.md', 'CHANGELOG.md', 'CONTRIBUTING.md']
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.mathjax', 'sphinx.ext.viewcode']
html_theme = 'furo'
html_title = f'mm_graft {version}'
nb_execution_mode = 'off'  # executed by the tests
myst_enable_extensions = ['colon_fence', 'dollarmath']
myst_heading_anchors = 4

autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_preserve_defaults = True
napoleon_use_ivar = True
# a link to a folder or a file that is no page leads nowhere in the built pages; the tests check that it exists
suppress_warnings = ['myst.xref_missing']

ROOMS = {
    'models': 'Models: algorithms, backbones, necks, heads, losses, targets',
    'engine': 'Engine: hooks, schedules, optimizer groups',
    'datasets': 'Data sets and transforms',
    'evaluation': 'Evaluation',
    'analysis': 'Analyses and figures',
    'checkpoints': 'Checkpoints',
}


def title(text: str, line: str = '=') -> str:
    return f'{text}\n{line * len(text)}\n\n'


def module_page(name: str) -> str:
    return title(name.replace('_', r'\_')) + f'.. automodule:: {name}\n'


def dotted(path: Path) -> str:
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def write_api_pages() -> None:
    """A page for each module with a public name, a list of pages for each room, a list of rooms."""
    folder = ROOT / 'docs' / 'api'
    folder.mkdir(exist_ok=True)
    lists = {room: [] for room in ROOMS}
    floor, texts = [], {}
    for path in sorted((ROOT / 'mm_graft').rglob('*.py')):
        if '.mim' in path.parts or path.stem.startswith('_'):
            continue
        name = dotted(path)
        texts[name] = module_page(name)
        room = path.relative_to(ROOT / 'mm_graft').parts[0]
        lists.get(room, floor).append(name)
    pages = {**{room: (text, lists[room]) for room, text in ROOMS.items()}, 'floor': ('Shared by all', floor)}
    texts |= {room: title(text) + tree(names) for room, (text, names) in pages.items()}
    texts['index'] = title('API') + tree(pages)
    for old in folder.glob('*.rst'):
        if old.stem not in texts:
            old.unlink()
    for name, text in texts.items():
        page = folder / f'{name}.rst'
        if not page.is_file() or page.read_text() != text:  # what has not changed is not built again
            page.write_text(text)


def tree(names: list[str]) -> str:
    return '.. toctree::\n   :maxdepth: 1\n\n' + ''.join(f'   {name}\n' for name in names)


MODELS.import_from_location()
write_api_pages()
