import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import EMAHook
from torch import nn

from mm_graft.checkpoints import CheckpointError
from mm_graft.checkpoints.containers import provenance_of, read_checkpoint, read_file


def saved(tmp_path, content):
    torch.save(content, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def state(value):
    return {'weight': torch.full((2, ), float(value))}


@pytest.mark.parametrize('container', ['state_dict', 'model', 'module', 'model_state_dict', 'student', 'encoder',
                                       'teacher', 'target_encoder', 'state_dict_ema', 'model_ema'])
def test_the_state_dict_is_found_where_people_put_it(tmp_path, container):
    path = saved(tmp_path, {'epoch': 3, container: state(1), 'optimizer': {'state': {}}})
    file = read_file(path)
    assert (file.container, file.tensors['weight'].tolist()) == (container, [1, 1])
    assert file.rest == {'epoch': 'beside the state dict', 'optimizer': 'beside the state dict'}


def test_a_bare_state_dict_is_one(tmp_path):
    file = read_file(saved(tmp_path, state(1) | {'version': 3}))
    assert (file.container, set(file.tensors), file.rest) == ('', {'weight'}, {'version': 'a int, no tensor'})


@pytest.mark.parametrize(('base', 'average'), [
    ('state_dict', 'state_dict_ema'), ('model', 'model_ema'), ('student', 'teacher'), ('encoder', 'target_encoder')])
def test_averaged_weights_are_said_and_taken_by_the_branch(tmp_path, base, average):
    path = saved(tmp_path, {base: state(1), average: state(2)})
    file = read_file(path)
    assert (file.container, file.is_average) == (base, False)
    assert file.rest == {average: "averaged weights, which branch='momentum' takes"}
    file = read_file(path, branch='momentum')
    assert (file.container, file.is_average, file.tensors['weight'][0].item()) == (average, True, 2)


@pytest.mark.parametrize(('outer', 'inner'), [('state_dict', 'model'), ('model', 'state_dict'), ('model', 'student')])
def test_a_state_dict_one_level_deeper_is_found(tmp_path, outer, inner):
    path = saved(tmp_path, {outer: {inner: state(1), 'teacher': state(2), 'step': 3}, 'epoch': 1})
    for branch, container, value in (('base', f'{outer}.{inner}', 1), ('momentum', f'{outer}.teacher', 2)):
        file = read_file(path, branch=branch)
        assert (file.container, file.is_average, file.tensors['weight'][0]) == (container, branch != 'base', value)


@pytest.mark.parametrize('name', ['ema_model', 'ema_state_dict', 'averaged_weights', 'momentum_model'])
def test_averages_are_known_by_their_words(tmp_path, name):
    path = saved(tmp_path, {name: state(2), 'model': state(1)})
    assert read_file(path).tensors['weight'][0] == 1
    assert read_file(path, branch='momentum').tensors['weight'][0] == 2


def test_of_the_hosts_average_the_state_dict_is_the_average(tmp_path):
    """Of a file that MMEngine's hook itself prepared."""
    hook, runner = EMAHook(), SimpleNamespace(model=nn.Linear(2, 1))
    hook.before_run(runner)
    for model, value in ((hook.ema_model.module, 2.), (hook.src_model, 1.)):
        nn.init.constant_(model.weight, value)
    content = {'state_dict': runner.model.state_dict(), 'message_hub': {}}
    hook.before_save_checkpoint(runner, content)
    path = saved(tmp_path, content)
    for branch in ('base', 'momentum'):
        file = read_file(path, branch=branch)
        assert (file.container, file.tensors['weight'].tolist(), file.is_average) == (
            'state_dict', [[2, 2]], branch == 'momentum')
        assert file.rest['ema_state_dict'].startswith('weights without average')


def test_any_container_can_be_named(tmp_path):
    path = saved(tmp_path, {'model': state(1), 'mine': {'net': state(2)}, 'x': 5})
    assert read_checkpoint(path, 'mine.net')['weight'][0] == 2
    for wrong in ('none', 'mine.none', 'x.y'):
        with pytest.raises(CheckpointError, match=rf"has no '{wrong}'; its keys are model \(a dict\), mine"):
            read_file(path, wrong)
    for empty in ('x', 'mine'):
        with pytest.raises(CheckpointError, match=f"no tensors under '{empty}'"):
            read_file(path, empty)
    with pytest.raises(CheckpointError, match="no tensors under ''"):
        read_file(path, '')


def test_where_nothing_is_found_the_keys_are_listed(tmp_path):
    path = saved(tmp_path, {'mine': state(1), 'args': argparse.Namespace(a=1), 'epoch': 1})
    with pytest.raises(CheckpointError, match=r'its keys are mine \(a dict\), args \(a argparse\.Namespace\), epoch '
                                              r'\(a int\); name the one that is the state dict by container'):
        read_file(path)
    for content, said in (([1], 'it holds a list; save a state dict'), ({}, 'it is empty'),
                          (nn.Linear(1, 1), 'it is a pickled model: .* save its state_dict'),
                          ({'model': nn.Linear(1, 1)}, 'it is a pickled model'),
                          ({'a': np.zeros(2)}, 'its weights are arrays: save them as tensors')):
        with pytest.raises(CheckpointError, match=said):
            read_file(saved(tmp_path, content))


def test_a_folder_is_refused_with_what_is_in_it(tmp_path):
    saved(tmp_path, state(1))
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(CheckpointError, match=r'is a folder; give the path of a file in it, of a\.pth$'):
        read_file(tmp_path)


def test_a_record_of_provenance_is_found_in_every_format():
    assert provenance_of({'provenance': {'a': 1}}) == {'a': 1}
    assert provenance_of({'provenance': '{"a": 1}'}) == {'a': 1}
    assert provenance_of({}) is provenance_of([1]) is provenance_of({'provenance': 3}) is None
