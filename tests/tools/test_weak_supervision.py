import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    import weak_supervision
    yield weak_supervision
    sys.modules.pop('weak_supervision')


def test_only_tags_that_name_a_class_compete(tool, tmp_path):
    weight = torch.zeros(20, 4)
    weight[3, 0] = weight[7, 1] = 1.0
    weight[15] = 100.0  # a word of context
    torch.save({'state_dict': {'head.fc.weight': weight, 'head.fc.bias': torch.zeros(20)}}, tmp_path / 'a.pth')
    features = torch.eye(4)[[0, 1, 0, 1]]
    assert tool.by_tags(features, torch.tensor([3, 7, 3, 2]), tmp_path / 'a.pth') == 75


def test_rows_that_are_there_are_not_made_again(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'evaluate', None)
    (tmp_path / 'mae_4').mkdir()
    (tmp_path / 'mae_4' / 'done').write_text('1 s')
    for name in (None, 'mae', *tool.ROWS):
        (tmp_path / f'row_{name}_4.json').write_text(json.dumps({'method': name}))
    assert [row['method'] for row in tool.run_seed(tmp_path, 4)] == [None, 'mae', *tool.ROWS]


def test_every_row_has_a_config_and_a_colour_in_the_figure(tool):
    text = (ROOT / 'docs' / 'figures' / 'weak_supervision.py').read_text()
    for name in tool.ROWS:
        assert (ROOT / 'configs' / 'wsp' / f'fashion-mnist_{name}.py').is_file()
        assert f"'{name}'" in text


def test_the_page_says_what_the_numbers_say():
    page = (ROOT / 'docs' / 'weak_supervision.md').read_text()
    for row in json.loads((ROOT / 'docs' / 'figures' / 'weak_supervision.json').read_text())['rows']:
        cells = [f'{row[key]:.1f}' if key in row else '' for key in ('knn', 'linear', 'fewshot_1', 'by_tags')]
        assert f'| {" | ".join(cells)} |'.replace('  ', ' ') in page.replace('  ', ' '), row['method']
