import argparse

import pytest
import torch

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
    for content, said in (([1], 'it holds a list'), ({}, 'it is empty')):
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
