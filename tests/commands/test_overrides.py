import ast
import re
import shlex
from argparse import ArgumentParser
from functools import cache
from inspect import signature
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mm_graft.commands import overrides
from mm_graft.commands.arguments import add_overrides
from mm_graft.commands.configs import load_config
from mm_graft.nested import leaves, value_at

ROOT = Path(__file__).parents[2]
GRAFT = 'graft/vit-b_mae2mocov3'
CONFIGS = sorted(path for pattern in ('configs/**/*.py', 'experiments/*/configs/*.py') for path in ROOT.glob(pattern)
                 if '_base_' not in path.parts and 'detection' not in path.parts)  # those need mmdet
PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').glob('*.md'),
                *(ROOT / 'configs').rglob('README.md'), *(ROOT / 'configs').rglob('*.py')])


@pytest.mark.parametrize(('options', 'result'), [
    ({'max_epochs': 100}, {'train_cfg.max_epochs': 100}),
    ({'warmup_epochs': 5}, {'param_scheduler.warmup': 5}),
    ({'base_lr': 1e-3}, {'optim_wrapper.optimizer.lr': 1e-3 * 4096 / 256}),
    ({'batch_size': 512}, {'optim_wrapper.optimizer.lr': 1.5e-4 * 2, 'auto_scale_lr.base_batch_size': 512}),
    ({'base_lr': 1e-3, 'batch_size': 512}, {'optim_wrapper.optimizer.lr': 2e-3}),
    ({'stage_lr_mult.1': 0.5}, {'optim_wrapper.paramwise_cfg.stage_lr_mult.1': 0.5}),
    # of an inherited file
    ({'temperature': 0.1}, {'model.head.temperature': 0.1, 'model.head.loss.loss_weight': 0.2}),
    ({'data_root': 'there/'}, {'train_dataloader.dataset.data_root': 'there/'}),
    # what a Runner reads wins over what is derived, whatever the order
    ({'base_lr': 1e-3, 'optim_wrapper.optimizer.lr': 7.0}, {'optim_wrapper.optimizer.lr': 7.0}),
    ({'optim_wrapper.optimizer.lr': 7.0, 'base_lr': 1e-3}, {'optim_wrapper.optimizer.lr': 7.0}),
    # what no config has
    ({'find_unused_parameters': True, 'env_cfg.dist_cfg.backend': 'gloo'}, {'find_unused_parameters': True})], ids=str)
def test_a_value_goes_where_it_belongs_and_what_is_derived_follows(options, result):
    cfg = load_config(GRAFT, options)
    assert {key: value_at(cfg, key) for key in result} == pytest.approx(result)


@pytest.mark.parametrize(('written', 'read'), [
    ('train_dataloader.dataset.data_root=2024', '2024'), ('data_root=0042', '0042'),
    ('train_dataloader.dataset.data_root=/data/a,b', '/data/a,b'), ('train_dataloader.dataset.data_root=True', 'True'),
    ('default_hooks.init.checkpoint=1e3', '1e3'), ('load_from=None', None), ('train_dataloader.batch_size=64', 64),
    ('optim_wrapper.optimizer.betas=0.9,0.95', [0.9, 0.95])])
def test_paths_are_taken_as_they_are_written(written, read):
    parser = ArgumentParser()
    add_overrides(parser)
    options = parser.parse_args(['--cfg-options', written]).cfg_options
    assert value_at(load_config(GRAFT, options), written.split('=')[0]) == read


def test_a_schedule_of_the_host_follows_the_length_of_the_run():
    cfg = load_config('conmim/conmim_vit-small-p16_16xb128-amp-coslr-300e_in1k', {'max_epochs': 50, 'warmup_epochs': 2})
    assert [(part.begin, part.end) for part in cfg.param_scheduler] == [(0, 2), (2, 50)]
    assert cfg.train_cfg.max_epochs == 50


def test_a_config_that_inherits_ours_by_name_follows_too(tmp_path):
    (tmp_path / 'mine.py').write_text(f"_base_ = 'mm_graft::{GRAFT}.py'\nwarmup_epochs = 3\n")
    cfg = load_config(str(tmp_path / 'mine.py'), {'max_epochs': 7})
    assert cfg.train_cfg.max_epochs == 7


def test_what_was_set_and_what_follows_is_told():
    notes = []
    load_config(GRAFT, {'max_epochs': 7, 'optim_wrapper.optimizer.lr': 1.0, 'base_lr': 3e-4}, notes)
    assert notes == [
        'max_epochs = 7 (command line; the config says 300)',
        'base_lr = 0.0003 (command line; the config says 0.00015)',
        'which sets optim_wrapper.optimizer.lr = 0.0048, train_cfg.max_epochs = 7',
        'optim_wrapper.optimizer.lr = 1.0 (command line; otherwise 0.0048)']


@pytest.mark.parametrize(('option', 'message'), [
    ({'max_epoch': 1}, r'max_epoch: there is no `max_epoch` in this config; did you mean .max_epochs.'),
    ({'train_cfgg.max_epochs': 1}, r'there is no `train_cfgg` in this config; did you mean .train_cfg.'),
    ({'zzz': 1}, r'there is no `zzz` in this config$'),
    ({'auto_scale_lr.enabled': True}, r'nothing reads `auto_scale_lr\.enabled`; did you mean .enable'),
    ({'train_cfg.max_epochs.x': 1}, r'`train_cfg\.max_epochs` is 300 and has no `x`'),
    ({'custom_hooks.1.priority': 1}, r"`custom_hooks` has 1 entries, counted from 0, and no '1'"),
    ({'custom_hooks.first.priority': 1}, r"`custom_hooks` has 1 entries, counted from 0, and no 'first'"),
    ({'param_scheduler.0.end': 1}, r'`param_scheduler` is .* and has no `0`'),
    ({'max_epochs': 'many'}, r'max_epochs=many: expected a number, such as 300'),
    ({'max_epochs': [1]}, r'max_epochs=\[1\]: expected a number'),
    ({'data_root': 3}, r'data_root=3: expected a text'),
    ({'model.backbone': 5}, r'model\.backbone=5: it is a mm_graft\.GraftViT with settings, not a number'),
    ({'optim_wrapper.optimizer': 'Adam'}, r'it is a AdamW with settings, not a text; set optim_wrapper\.optimizer'),
    ({'stage_lr_mult': 0.5}, r'expected a list, such as \[0\.1, 0\.1, 1\.0\]'),
    ({'crop_and_color.9.prob': 0.5}, r'crop_and_color\.9\.prob=0\.5 cannot be read: .*index')], ids=str)
def test_what_cannot_be_set_is_refused_with_the_nearest_name_or_an_example(option, message):
    with pytest.raises(ValueError, match=message):
        load_config(GRAFT, option)


@pytest.mark.parametrize(('text', 'message'), [
    ('idle = 1\n', 'idle=2 would change nothing: no key that a run reads is made of `idle`'),
    ('import os\nmodel = dict(idle=1)\n', 'there is no `idle`')])
def test_a_variable_that_feeds_nothing_is_refused(tmp_path, text, message):
    (tmp_path / 'config.py').write_text(f'train_cfg = dict(max_epochs=1)\n{text}')
    with pytest.raises(ValueError, match=message):
        load_config(str(tmp_path / 'config.py'), {'idle': 2})


def test_a_variable_may_be_given_the_value_that_it_has():
    assert load_config(GRAFT, {'max_epochs': 300}).train_cfg.max_epochs == 300


def bound(path: Path) -> tuple[set[str], list[Path]]:
    """Variables that a config file assigns at its top, and the files of ours from which it inherits."""
    names, bases = set(), []
    for node in ast.parse(path.read_text()).body:
        for target in node.targets if isinstance(node, ast.Assign) else []:
            names |= {part.id for part in ast.walk(target) if isinstance(part, ast.Name)}
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            listed = ast.literal_eval(node.value)
            bases = [(path.parent / base).resolve() for base in ([listed] if isinstance(listed, str) else listed)
                     if '::' not in base]
    return names - overrides.RUNNER_KEYS - {'_base_'}, bases


def matters(path: Path, cfg: Config, name: str) -> bool:
    """Whether another value of a variable, or of the first value in it, changes what a Runner reads."""
    key, value = next(iter(leaves(cfg[name], name)))
    other = not value if isinstance(value, bool) else 2 * value + 1 if isinstance(value, int | float) else f'{value}x'
    try:
        return bool(overrides.changes(cfg, overrides.read(path, {key: other})))
    except ValueError:  # something is computed from it, and does not take this value
        return True


def test_every_variable_at_the_top_of_a_config_changes_something_that_a_run_reads():
    """Those of an inherited file need to do so in one of the configs that inherit it."""
    idle, inherited = [], {}
    for path in CONFIGS:
        cfg = overrides.read(path, {})
        names, bases = bound(path)
        idle += [f'{path.relative_to(ROOT)}: {name}' for name in names if not matters(path, cfg, name)]
        while bases:
            base = bases.pop()
            names, above = bound(base)
            bases += above
            for name in names:
                inherited[base, name] = inherited.get((base, name)) or matters(path, cfg, name)
    idle += [f'{base.relative_to(ROOT)}: {name}' for (base, name), needed in inherited.items() if not needed]
    assert idle == []


def test_the_batch_that_is_named_is_the_one_that_the_learning_rate_is_for():
    cfgs = {path.stem: overrides.read(path, {}) for path in CONFIGS}
    stated = {name: (cfg.batch_size, cfg.auto_scale_lr.base_batch_size) for name, cfg in cfgs.items()
              if 'batch_size' in cfg and 'auto_scale_lr' in cfg}
    assert {name: pair for name, pair in stated.items() if pair[0] != pair[1]} == {}


def test_every_option_that_is_documented_counts():
    """In the config that its command names, and if it names none, in the first one of ours."""
    wrong, read = [], cache(lambda name: overrides.read(ROOT / name, {}))
    for page in PAGES:
        text = page.read_text().replace('\\\n', ' ').replace('KEY=', 'model.key=')
        found = re.findall(r'(?m)^(.*?)--cfg-options((?:\s+[a-z_][\w.]*=(?:"[^"]*"|[^\s`"]+))+)', text)
        for command, options in found:
            named = re.findall(r'(?:experiments/\w+/)?configs/[\w./-]+\.py', command) or [f'configs/{GRAFT}.py']
            for key in (word.split('=')[0] for word in shlex.split(options)):
                try:
                    overrides.check_keys(read(named[-1]), [key])
                except ValueError as error:
                    wrong.append(f'{page}: {error}')
    assert wrong == []


def test_the_arguments_of_the_runner_are_those_of_the_host():
    assert set(overrides.ARGUMENTS) == set(signature(Runner.__init__).parameters) - {'self', 'cfg'}


def test_a_preprocessor_that_the_models_own_replaces_is_not_set():
    cfg = Config(dict(model=dict(data_preprocessor=dict(mean=[0])), data_preprocessor=dict(mean=[1])))
    with pytest.raises(ValueError, match=r'would change nothing: .* set model\.data_preprocessor\.mean'):
        overrides.apply(cfg, None, {'data_preprocessor.mean': [2]})
    assert overrides.apply(cfg, None, {'model.data_preprocessor.mean': [2]})[0].model.data_preprocessor.mean == [2]
