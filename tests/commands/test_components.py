from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, MODELS, OPTIMIZERS, TRANSFORMS
from torch import Tensor

import mm_graft.engine
import mm_graft.models  # noqa: F401
from mm_graft.commands import overrides
from mm_graft.commands.components import (
    check_needed,
    check_options,
    check_types,
    explained,
    misspelled,
    options_of,
    unknown_type,
)
from tests.tiny import VIT

ROOT = Path(__file__).parents[2]


class Plain:

    def __init__(self, width, depth=1):
        pass


class Passing(Plain):

    def __init__(self, *args, height=1, **kwargs):
        super().__init__(*args, **kwargs)


class Swallowing:

    def __init__(self, interval=1, **kwargs):
        pass


class Bare:
    pass


@pytest.mark.parametrize(('kind', 'known', 'swallows'), [
    (Plain, {'width', 'depth'}, False), (Passing, {'width', 'depth', 'height'}, False),
    (Swallowing, {'interval'}, True), (Bare, set(), False), (lambda size, **rest: None, {'size'}, True)])
def test_a_class_has_the_options_of_those_to_which_it_passes_the_rest(kind, known, swallows):
    assert (set(options_of(kind)[0]), options_of(kind)[1]) == (known | {'type', '_scope_'}, swallows)


def test_only_what_a_class_would_swallow_and_what_is_nearly_an_option_is_misspelled():
    assert misspelled('intervall', Swallowing)
    assert not misspelled('interval', Swallowing)
    assert not misspelled('backend_args', Swallowing)
    assert not misspelled('widht', Plain)  # the class says so itself


def build(registry, part, **keys):
    cfg = Config(keys)
    with explained(cfg):
        registry.build(part(cfg))


@pytest.mark.parametrize(('registry', 'part', 'keys', 'message'), [
    (MODELS, lambda cfg: cfg.model, dict(model=dict(type='MAEViT', img_siz=32)),
     r'model\.img_siz: MAEViT has no option `img_siz`; did you mean .img_size.\?'),
    (MODELS, lambda cfg: cfg.model, dict(model=dict(type='ImageClassifier', backbone=dict(
        type='mm_graft.GraftViT', **VIT, depht=2))), r'model\.backbone\.depht: GraftViT has no option `depht`'),
    (TRANSFORMS, lambda cfg: cfg.train_dataloader.dataset.pipeline[1], dict(train_dataloader=dict(dataset=dict(
        pipeline=[dict(type='LoadImageFromFile'), dict(type='RandomFlip', probb=0.5)]))),
     r'train_dataloader\.dataset\.pipeline\.1\.probb: RandomFlip has no option `probb`; did you mean .prob.'),
    (HOOKS, lambda cfg: cfg.custom_hooks[0], dict(custom_hooks=[dict(type='ParamSchedulerHook', interval=3)]),
     r'custom_hooks\.0\.interval: ParamSchedulerHook has no option `interval`'),
    (MODELS, lambda cfg: cfg.model, dict(model=dict(type='MAEVit')),
     r'model\.type: there is no model `MAEVit`; did you mean .*MAEViT'),
    (MODELS, lambda cfg: cfg.model, dict(model=dict(type='mm_graft.GraftVit')),
     r'model\.type: there is no model `mm_graft\.GraftVit`; did you mean .*mm_graft\.GraftViT'),
    (DATASETS, lambda cfg: cfg.data, dict(data=dict(type='NoSuchThing')), r'^there is no dataset `NoSuchThing`$')])
def test_what_the_host_does_not_know_is_named_by_key_class_and_meaning(registry, part, keys, message):
    with pytest.raises(ValueError, match=message):
        build(registry, part, **keys)


def test_a_class_of_another_scope_is_proposed_with_it():
    found = [unknown_type(Config(dict(default_scope=scope)), 'MAE', 'model') for scope in ('mmseg', 'mmpretrain')]
    assert ['mmpretrain.MAE' in message for message in found] == [True, False]


def test_an_optimizer_names_its_options_where_nothing_is_alike():
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', zzz=1))))
    message = r'optim_wrapper\.optimizer\.zzz: SGD has no option `zzz`; it has .*momentum'
    with pytest.raises(ValueError, match=message), explained(cfg):
        OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=[]))


@pytest.mark.parametrize('error', [TypeError('unsupported operand'), KeyError('inputs'),
                                   TypeError("f() got an unexpected keyword argument 'not_in_the_config'")])
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, explained(Config(dict(model=dict(type='MAE')))):
        raise error
    assert caught.value is error


def test_an_option_is_not_said_to_be_unknown_to_a_class_that_has_it():
    cfg = Config(dict(model=dict(type='MAEViT', img_size=32)))
    with pytest.raises(TypeError, match='unexpected keyword'), explained(cfg):
        raise TypeError("Other.__init__() got an unexpected keyword argument 'img_size'")


def test_a_misspelling_that_a_class_would_swallow_is_refused():
    hooks = dict(checkpoint=dict(type='mm_graft.SafeCheckpointHook', intervall=3))
    with pytest.raises(ValueError, match=r'default_hooks\.checkpoint\.intervall: .*did you mean .interval'):
        check_options(Config(dict(default_hooks=hooks)))
    check_options(Config(dict(default_hooks=dict(checkpoint=dict(type='mm_graft.SafeCheckpointHook', backend_args=3)))))


class Typed:

    def __init__(self, rate: float | Tensor, at_start: bool | None = False, how: bool | str = 'x', name='',
                 sides: list[int] | None = None):
        pass


class Below(Typed):

    def __init__(self, *args, interval: int = 1, **kwargs):
        super().__init__(*args, **kwargs)


@pytest.mark.parametrize(('option', 'value', 'wanted'), [
    ('at_start', 'no', 'True or False'), ('rate', '1e-3,', 'a number'), ('interval', 'ten', 'a whole number')])
def test_a_text_in_place_of_a_number_or_a_switch_is_refused(option, value, wanted):
    """`--cfg-options …at_start=no` is the text 'no', which Python takes as true."""
    with pytest.raises(ValueError, match=rf'custom_hooks\.0\.{option}={value!r} must be {wanted}'):
        check_options(Config(dict(custom_hooks=[dict(type=Below, **{option: value})])))


def test_a_text_is_no_learning_rate():
    with pytest.raises(ValueError, match=r"optim_wrapper\.optimizer\.lr='abc' must be a number"):
        check_options(Config(dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr='abc')))))


def test_a_text_that_an_option_may_be_passes():
    hook = dict(type=Below, how='no', name='no', at_start=False, rate=1, interval=2, sides='all')
    check_options(Config(dict(custom_hooks=[hook])))


def test_no_config_of_ours_is_refused():
    for path in ROOT.glob('configs/**/*.py'):
        if not {'_base_', 'detection'} & set(path.parts):
            check_options(overrides.read(path, {}))


def optimizer(kind, **cfg):
    return Config(dict(optim_wrapper=dict(optimizer=dict(type=kind)), **cfg))


@pytest.mark.parametrize('cfg', [
    optimizer('AdamW'), optimizer(torch.optim.SGD), optimizer('Lamb'), Config({}),
    optimizer('mmpretrain.Lamb', default_scope='mmseg'),
    Config(dict(param_scheduler=[dict(type='LinearLR'), dict(type='mm_graft.WarmupCosineLR')])),
    Config(dict(param_scheduler=dict(type='PolyLR'), custom_hooks=[dict(type='EMAHook')]))])
def test_what_torch_the_host_and_we_register_is_known(cfg):
    check_types(cfg)


@pytest.mark.parametrize(('cfg', 'message'), [
    (optimizer('AdamWW'), r'^optim_wrapper\.optimizer\.type: there is no optimizer `AdamWW`; did you mean .*AdamW'),
    (dict(param_scheduler=[dict(type='LinearLR'), dict(type='WarmupCosineLR')]),
     r'^param_scheduler\.1\.type: there is no parameter scheduler `WarmupCosineLR`; .*mm_graft\.WarmupCosineLR'),
    (dict(custom_hooks=[dict(type='EMAHok')]), r'^custom_hooks\.0\.type: there is no hook `EMAHok`; .*EMAHook'),
    (dict(default_hooks=dict(timer=dict(type='IterTimer'))), r'^default_hooks\.timer\.type: .*IterTimerHook')])
def test_what_nobody_registers_is_named_before_anything_is_built(cfg, message):
    with pytest.raises(ValueError, match=message):
        check_types(Config(cfg) if isinstance(cfg, dict) else cfg)


@pytest.mark.parametrize('value', [None, 5, [1]])
def test_what_a_command_cannot_do_without_is_named(value):
    check_needed(Config(dict(model=dict(type='MAE'))), ('model', ))
    with pytest.raises(ValueError, match=r'train_cfg is .*, and this command needs a dict'):
        check_needed(Config(dict(model={}, train_cfg=value)), ('model', 'train_cfg'))
