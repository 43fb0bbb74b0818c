"""The pages: links lead somewhere, the tutorial runs, every config folder with a README is in the model index."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments.fashion_mnist import prepare_fashion_mnist
from mm_graft.checkpoints import LAYOUT_NAMES

ROOT = Path(__file__).parents[1]
PAGES = [page for pattern in ('*.md', 'docs/*.md', 'configs/*/README.md', 'experiments/**/README.md')
         for page in ROOT.glob(pattern)]
LINK = re.compile(r'!?\[[^\]]*\]\(([^)\s]+)\)')
CELLS = json.loads((ROOT / 'docs' / 'tutorial.ipynb').read_text())['cells']


def source(cell):
    return ''.join(cell['source'])


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files(page):
    text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
    targets = [target.split('#')[0] for target in LINK.findall(text) if '://' not in target]
    assert not [target for target in targets if target and not (page.parent / target).exists()]


def test_links_of_the_tutorial_lead_to_files():
    text = '\n'.join(source(cell) for cell in CELLS if cell['cell_type'] == 'markdown')
    assert LINK.findall(text)
    assert all((ROOT / 'docs' / target).exists() for target in LINK.findall(text) if '://' not in target)


def test_every_page_of_a_method_is_in_the_model_index():
    index = (ROOT / 'model-index.yml').read_text()
    pages = [path.parent.name for path in ROOT.glob('configs/*/metafile.yml')]
    assert pages
    assert all(f'configs/{name}/metafile.yml' in index for name in pages)


def test_every_config_of_a_method_stands_in_its_metafile():
    left_out = ('_own-images', )  # of no published data set
    for metafile in ROOT.glob('configs/*/metafile.yml'):
        configs = {str(path.relative_to(ROOT)) for path in metafile.parent.glob('*.py')
                   if not any(part in path.name for part in left_out)}
        listed = {model['Config'] for model in yaml.safe_load(metafile.read_text())['Models']}
        assert configs <= listed


def test_the_tutorial_is_kept_without_outputs():
    assert not any(cell.get('outputs') for cell in CELLS)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    try:
        prepare_fashion_mnist(ROOT / 'data' / 'fashion_mnist')
    except RuntimeError as error:
        pytest.skip(str(error))
    script = '\n\n'.join(source(cell) for cell in CELLS if cell['cell_type'] == 'code')
    script += "\nassert set(scores) == {'mae', 'graft'}\nassert min(scores.values()) > 20\n"
    for name in ('configs', 'data', 'docs', 'experiments'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'tutorial.py').write_text(script)
    result = subprocess.run(
        [sys.executable, 'tutorial.py'], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'MPLBACKEND': 'Agg', 'OMP_NUM_THREADS': '1'})
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_tables_of_layouts_have_every_layout_and_no_other():
    rows = re.findall(r'^\| (`[^|]+) \|', (ROOT / 'docs/checkpoints.md').read_text(), re.M)
    assert {name for row in rows for name in re.findall(r'`([\w-]+)`', row)} == set(LAYOUT_NAMES)
