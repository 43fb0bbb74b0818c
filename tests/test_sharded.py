"""Two processes that keep shards (FSDP2) reach the weights of one, hold half each, and share its checkpoints."""

import pytest
import torch

from mm_graft.checkpoints.intact import training_meta
from tests.sharded_runs import RESUMED_AT, RUNS, run_all

LONGER = [name for name in RUNS if name not in ('mae', 'graft', 'mae with a bad gradient')]


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp('one')
    run_all(folder, 1, ['mae', 'graft', 'mae with a bad gradient'])
    return folder


@pytest.fixture(scope='module')
def two(one, tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    run_all(folder, 2, ['mae', 'graft', 'mae with a bad gradient', ('graft', one)])
    return folder


@pytest.fixture(scope='module')
def one_after_two(two, tmp_path_factory):
    folder = tmp_path_factory.mktemp('one_after_two')
    run_all(folder, 1, [('graft', two)])
    return folder


@pytest.fixture(scope='module')
def longer(tmp_path_factory):
    folders = {count: tmp_path_factory.mktemp(f'longer{count}') for count in (1, 2, 4)}
    for count, folder in folders.items():
        run_all(folder, count, [*LONGER, *(['mae', 'graft'] if count == 4 else [])])
    return folders


def assert_equal(left, right, rtol=1e-5, atol=1e-7):
    assert left.keys() == right.keys()
    for key, value in left.items():
        torch.testing.assert_close(right[key], value, rtol=rtol, atol=atol, msg=lambda text, key=key: f'{key}: {text}')


def result(folder, name):
    return torch.load(folder / f'{name}.pth', weights_only=True)


@pytest.mark.parametrize('name', ['mae', 'graft', 'mae with a bad gradient'])
def test_two_processes_with_shards_reach_the_weights_of_one(one, two, name):
    assert_equal(result(one, name)['weights'], result(two, name)['weights'])


def test_a_spoiled_step_is_left_out_by_all_and_named(one, two):
    assert all(torch.isfinite(value).all() for value in result(two, 'mae with a bad gradient')['weights'].values())
    for folder in (one, two):
        log = next((folder / 'mae with a bad gradient').rglob('*.log')).read_text()
        assert 'gradients of 1 of' in log
        assert '(backbone.layers.0.attn.qkv.weight)' in log


@pytest.mark.parametrize('name', ['mae', 'graft'])
def test_each_of_two_holds_half_of_parameters_and_optimizer(one, two, name):
    everything = result(one, name)['all']
    assert result(one, name)['held'] == [None]
    assert result(two, name)['all'] == everything
    assert result(two, name)['held'] == [{key: number // 2 for key, number in everything.items()}] * 2
    assert all(number % 2 == 0 for number in everything.values())


def test_the_anchor_is_that_of_the_whole_model(one, two):
    for left, right in zip(result(one, 'graft')['losses'], result(two, 'graft')['losses'], strict=True):
        assert left['loss_anchor'] > 0
        assert left['loss_anchor'] == pytest.approx(right['loss_anchor'], rel=1e-9)


def test_a_checkpoint_is_the_ordinary_one(one, two):
    left, right = (torch.load(folder / 'graft' / RESUMED_AT, weights_only=False) for folder in (one, two))
    assert training_meta(two / 'graft' / RESUMED_AT)['iter'] == 4
    assert left.keys() == right.keys()
    weights = [{key: value for key, value in state['state_dict'].items() if 'running' not in key}
               for state in (left, right)]
    assert_equal(*weights)
    assert list(weights[0]) == list(weights[1])
    groups = left['optimizer']['param_groups'], right['optimizer']['param_groups']
    assert groups[0] == groups[1]
    for place, kept in left['optimizer']['state'].items():
        assert {type(value) for value in right['optimizer']['state'][place].values()} == {torch.Tensor}
        assert_equal(kept, right['optimizer']['state'][place], rtol=1e-4)


def test_shards_go_on_from_the_checkpoint_of_one_process(one, two):
    assert_equal(result(one, 'graft')['weights'], result(two, 'graft resumed')['weights'])


def test_one_process_goes_on_from_the_checkpoint_of_shards(one, one_after_two):
    assert_equal(result(one, 'graft')['weights'], result(one_after_two, 'graft resumed')['weights'])


@pytest.mark.slow
@pytest.mark.parametrize('count', [2, 4])
@pytest.mark.parametrize('name', LONGER)
def test_other_methods_and_ways_to_run_blocks_reach_the_weights_of_one(longer, name, count):
    alone, shards = result(longer[1], name), result(longer[count], name)
    assert_equal(alone['weights'], shards['weights'])
    for key, number in alone['all'].items():
        held = [each[key] for each in shards['held']]
        assert sum(held) == number
        assert max(held) <= 1.01 * number / count


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mae', 'graft'])
def test_four_processes_with_shards_reach_the_weights_of_one(one, longer, name):
    assert_equal(result(one, name)['weights'], result(longer[4], name)['weights'])
