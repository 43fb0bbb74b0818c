import logging

import pytest

from mm_graft.engine.optimizers.custom_keys import (
    check_keys,
    check_settings,
    custom_settings,
    default_of,
    fitting_keys,
)

ADAM = dict(type='AdamW', lr=1.0)


def test_a_key_does_not_cut_a_number_and_the_longest_comes_last():
    assert fitting_keys('backbone.layers.1.ln1.weight', ['layers.1']) == ['layers.1']
    assert fitting_keys('backbone.layers.10.ln1.weight', ['layers.1']) == []
    assert fitting_keys('backbone.layers.10.ln1.weight', ['layers.1', 'layers.10', 'ln1']) == ['ln1', 'layers.10']
    assert fitting_keys('backbone.layers.1.ln1.weight', ['ln1.weight', 'layers.1']) == ['layers.1', 'ln1.weight']
    assert fitting_keys('backbone.layers.1.ln1.weight', ['LN1']) == []
    assert fitting_keys('backbone.layersx1', ['layers.1']) == []
    assert fitting_keys('backbone.layers.5.ffn.layers.1.bias', ['layers.1']) == ['layers.1']
    assert fitting_keys('backbone.layers.5.ffn.layers.1.bias', ['backbone.layers.1']) == []


def test_each_setting_comes_from_the_longest_key_that_gives_it():
    keys = {'backbone.ln1': dict(decay_mult=0.5), 'backbone': dict(lr_mult=0.1, decay_mult=0.2), 'neck': dict(eps=1.0)}
    assert custom_settings('backbone.ln1.weight', keys) == dict(lr_mult=0.1, decay_mult=0.5)
    assert custom_settings('backbone.cls_token', keys) == dict(lr_mult=0.1, decay_mult=0.2)
    assert custom_settings('head.weight', keys) == {}
    assert custom_settings('neck.weight', {'neck': dict(lr_mult=2.0, optional=True)}) == dict(lr_mult=2.0)


def test_of_equally_long_keys_the_first_in_the_alphabet_wins_as_in_mmengine():
    keys = {'ln1': dict(lr_mult=2.0), 'bac': dict(lr_mult=3.0)}
    assert custom_settings('backbone.ln1.weight', keys) == custom_settings(
        'backbone.ln1.weight', dict(reversed(keys.items()))) == dict(lr_mult=3.0)


def test_the_default_of_an_option_is_a_number_other_than_zero_or_none():
    found = [default_of(kind, name) for kind, name in (
        ('AdamW', 'weight_decay'), ('SGD', 'weight_decay'), ('SGD', 'rho'), ('AdamW', 'betas'))]
    assert found == [0.01, None, None, None]


def test_what_constructor_schedules_and_optimizer_know_is_accepted():
    check_settings({'neck': dict(lr_mult=0.0, decay_mult=0.0, global_rate=True, betas=(0.9, 0.98))}, ADAM)
    check_settings({'neck': dict(momentum=0.5, optional=True)}, dict(type='SGD', lr=1.0))


@pytest.mark.parametrize(('settings', 'message'), [
    (dict(momentum=0.5), "unknown settings .*'momentum'"),
    (dict(weight_decay=0.5), "unknown settings .*'weight_decay'"),
    (dict(params=1), "unknown settings .*'params'"),
    (dict(lr_mult=-1.0), r'lr_mult=-1\.0 must be ≥ 0'), (dict(decay_mult=-0.1), r'decay_mult=-0\.1 must be ≥ 0'),
    (0.1, r"custom_keys\['neck'\] = 0\.1 must be a dict")])
def test_other_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        check_settings({'neck': settings}, ADAM)


def test_a_key_that_fits_nothing_is_refused_and_one_of_frozen_parameters_warns(monkeypatch):
    trained = {'backbone.layers.0.ln1.weight': True, 'backbone.cls_token': False}
    check_keys({'backbone': {}, 'ln1': {}, 'neck': dict(optional=True)}, trained)
    with pytest.raises(ValueError, match=r"\['neck'\] stand in no name .* optional=True$"):
        check_keys({'backbone': {}, 'neck': dict(optional=False)}, trained)
    for lost, meant in (('backbone.cls_tokn', 'backbone.cls_token'), ('layrs', 'layers'), ('bakbone', 'backbone'),
                        ('backbone.layrs.0', 'backbone.layers.0')):
        with pytest.raises(ValueError, match=f"'{meant}'"):
            check_keys({lost: {}}, trained)
    said = []
    monkeypatch.setattr('mm_graft.engine.optimizers.custom_keys.print_log', lambda text, **kwargs: said.append(
        (text, kwargs['level'])))
    check_keys({'backbone': {}, 'cls_token': {}, '.pos_embed': {}}, trained)
    assert said == [
        ("custom_keys ['.pos_embed'] change nothing: this model has no such parameter", logging.WARNING),
        ("custom_keys ['cls_token'] change nothing: all parameters that they fit are frozen", logging.WARNING)]
