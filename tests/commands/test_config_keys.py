import re
import shlex
from inspect import signature
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mm_graft.commands.config_keys import ARGUMENTS, check_keys, places_of
from mm_graft.commands.configs import load_config

ROOT = Path(__file__).parents[2]
GRAFT = ROOT / 'configs/graft/vit-b_mae2mocov3.py'
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').glob('*.md'),
                *(path for folder in ('configs', 'experiments') for end in ('README.md', '*.py')
                  for path in (ROOT / folder).rglob(end))])
FEEDING = {
    'base_lr': 'optim_wrapper.optimizer.lr',
    'batch_size': 'train_dataloader.batch_size',
    'max_epochs': 'train_cfg.max_epochs',
    'warmup_epochs': 'param_scheduler.warmup',
    'stage_lr_mult': 'optim_wrapper.paramwise_cfg.stage_lr_mult',
    'train_pipeline': 'train_dataloader.dataset.pipeline',
}


@pytest.mark.parametrize(('variable', 'place'), FEEDING.items(), ids=FEEDING)
def test_a_value_that_only_fed_others_is_refused_and_what_counts_is_named(variable, place):
    with pytest.raises(ValueError, match=rf'{variable} would change nothing.*{re.escape(place)}'):
        load_config(str(GRAFT), {variable: 1})


@pytest.mark.parametrize(('key', 'meant'), [('train_cfgg.max_epochs', 'train_cfg'), ('optim_wraper', 'optim_wrapper')])
def test_a_key_that_no_config_has_is_refused_with_the_one_that_is_called_alike(key, meant):
    with pytest.raises(ValueError, match=rf'{key}: there is no .*did you mean `{meant}`'):
        load_config(str(GRAFT), {key: 1})
    with pytest.raises(ValueError, match=r'there is no `zzz` in a config$'):
        load_config(str(GRAFT), {'zzz': 1})


def test_what_a_runner_reads_may_be_set_even_where_the_config_lacks_it():
    check_keys(Config({}), ['work_dir', 'load_from', 'resume', 'default_scope', 'randomness.seed', 'custom_hooks.0.x',
                            'find_unused_parameters', 'env_cfg.dist_cfg.backend', 'model_wrapper_cfg.type', 'compile',
                            'strategy.type', 'runner_type', 'auto_scale_lr.enable', 'experiment_name', 'log_level'])


def test_a_variable_is_found_by_its_name_or_by_what_it_holds():
    cfg = Config(dict(depth=2, means=[1, 2], model=dict(depth=2, mean=[1, 2], width=2)))
    assert places_of(cfg, 'depth') == ['model.depth']
    assert places_of(cfg, 'means') == ['model.mean']


def test_every_option_that_is_documented_counts():
    wrong, cfg = [], Config.fromfile(GRAFT)
    for page in PAGES:
        text = page.read_text().replace('\\\n', ' ').replace('KEY=', 'model.key=')
        found = re.findall(r'--cfg-options((?:\s+[a-z_][\w.]*=(?:"[^"]*"|[^\s`"]+))+)', text)
        for key in (word.split('=')[0] for options in found for word in shlex.split(options)):
            try:
                check_keys(cfg, [key])
            except ValueError as error:
                wrong.append(f'{page}: {error}')
    assert wrong == []


def test_the_arguments_of_the_runner_are_those_of_the_host():
    assert set(ARGUMENTS) == set(signature(Runner.__init__).parameters) - {'self', 'cfg'}
