"""The tables of overrides in the READMEs and metafiles: each override is accepted, changes the run as the row says."""

import argparse
import re
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import pytest
from mmengine.config import Config, DictAction
from mmengine.fileio import load

from mm_graft.commands.configs import load_config
from mm_graft.commands.overrides import RUNNER_KEYS
from tests.test_configs import build, read

ROOT = Path(__file__).parents[1]
LINK = re.compile(r'\]\(([^)#]+\.py)\)')
# columns that state a value of the config
STATED = {
    'epochs': lambda cfg: cfg.train_cfg.max_epochs,
    'learning rate': lambda cfg: cfg.optim_wrapper.optimizer.lr,
    'layer decay': lambda cfg: cfg.optim_wrapper.paramwise_cfg.layer_decay_rate,
    'stages': lambda cfg: (cfg.optim_wrapper.get('paramwise_cfg') or {}).get('stage_lr_mult'),
    't0': lambda cfg: cfg.param_scheduler.t0,
    'frozen blocks': lambda cfg: max(0, cfg.model.backbone.get('frozen_stages', 0)),
}


class Row(NamedTuple):
    """A config, an override of it, and what the row says about the two."""

    place: str
    config: Path
    override: str
    stated: dict


def tables(page: Path) -> list[list[list[str]]]:
    """The tables of a page, as rows of cells."""
    blocks = re.findall(r'(?:^\|.*\|\n)+', page.read_text(), re.M)
    return [[[cell.strip() for cell in line.strip('|').split('|')] for line in block.splitlines()] for block in blocks]


def rows() -> list[Row]:
    """Every row with a config of every table that has a column of overrides."""
    found = []
    for page in sorted(ROOT.glob('configs/**/README.md')):
        for head, _, *body in tables(page):
            if not {'config', 'override'} <= set(head):
                continue
            config = None
            for cells in body:
                row = dict(zip(head, cells, strict=True))
                link = LINK.search(row['config'])
                config = (page.parent / link[1]).resolve() if link else config
                stated = {name: row[name] for name in STATED if row.get(name, '–') not in ('', '–')}
                found.append(Row(page.parent.name, config, row['override'].strip('`'), stated))
    for file in sorted(ROOT.glob('configs/*/metafile.yml')):
        for model in load(file)['Models']:
            facts = model['Metadata']
            found.append(Row(file.parent.name, ROOT / model['Config'], facts.get('Override', ''),
                             {'epochs': str(facts['Epochs'])} if 'Epochs' in facts else {}))
    return found


ROWS = rows()
OVERRIDDEN = [row for row in ROWS if row.override]


def parse(words: list[str]) -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args(['--cfg-options', *words]).cfg_options


def changed(config: Path, words: list[str]) -> Config:
    return load_config(str(config), parse(words)) if words else deepcopy(read(config))


def what_runs(cfg: Config) -> dict:
    return {key: value for key, value in cfg.to_dict().items() if key in RUNNER_KEYS}


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r'\d+(?:\.\d+)?(?:e-?\d+)?', text)]


def test_the_tables_are_found():
    assert {row.place for row in ROWS} >= {'graft', 'eval', 'conmim', 'localmim', 'freezeout', 'segmentation', 'wsp'}
    assert len(OVERRIDDEN) > 25


def test_every_part_of_an_override_changes_the_run():
    idle = []
    for row in OVERRIDDEN:
        before = what_runs(read(row.config))
        idle += [(row.place, word) for word in row.override.split() if what_runs(changed(row.config, [word])) == before]
    assert idle == []


def test_a_row_states_the_values_that_its_run_has():
    wrong = []
    for row in ROWS:
        cfg = changed(row.config, row.override.split())
        for name, text in row.stated.items():
            actual = STATED[name](cfg)
            expected = numbers(text)
            if [*(actual if isinstance(actual, list) else [actual])] != pytest.approx(expected, rel=1e-3):
                wrong.append((row.place, row.config.name, row.override, name, text, actual))
    assert wrong == []


@pytest.mark.parametrize('row', list({row.override: row for row in OVERRIDDEN if 'model.' in row.override}.values()),
                         ids=lambda row: f'{row.place}: {row.override[:60]}')
def test_a_changed_model_can_be_built_and_its_parameters_grouped(row):
    words = [word for word in row.override.split() if 'checkpoint' not in word]
    _, model, optim_wrapper = build(changed(row.config, words))
    assert len(list(model.parameters())) > 0
    assert optim_wrapper.param_groups
