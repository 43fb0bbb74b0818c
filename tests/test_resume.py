"""A run that is interrupted anywhere and resumed ends with the bits of an uninterrupted one."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
METHODS = ('graft', 'vicreg', 'refiner', 'mae', 'localmim with FreezeOut', 'graft with FreezeOut', 'conmim',
           'fine-tuning', 'self-distillation')
PER_EPOCH = 5


def execute(folder, plan):
    """Make all runs of a plan from one process; what became of each attempt."""
    (folder / 'plan.json').write_text(json.dumps(plan))
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tests' / 'resume_runs.py'), str(folder), str(folder / 'plan.json')], text=True,
        capture_output=True, check=False, env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1',
                                               'CUDA_VISIBLE_DEVICES': ''})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.rpartition('RESULT ')[2])


def flat(value, name=''):
    """All tensors and numbers in nested dicts and lists, by path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {path: leaf for key, child in items for path, leaf in flat(child, f'{name}.{key}').items()}
    return {name: value}


def same(left, right):
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


def differences(folder, left, right, epochs):
    """Names of what differs between the last checkpoints of two runs."""
    states = [torch.load(folder / name / f'epoch_{epochs}.pth', weights_only=False) for name in (left, right)]
    states = [flat({part: state[part] for part in ('state_dict', 'optimizer', 'param_schedulers')}) for state in states]
    assert states[0].keys() == states[1].keys()
    return [name for name in states[0] if not same(states[0][name], states[1][name])]


def log(folder, name):
    return (folder / f'{name}.log').read_text()


RUNS = {
    'whole': [{}],
    'killed': [{'signal': 'SIGKILL', 'iteration': 7}, {}],
    'terminated': [{'signal': 'SIGTERM', 'iteration': 7}, {}],
    'twice': [{'signal': 'SIGUSR1', 'iteration': 2}, {'signal': 'SIGTERM', 'iteration': 4}, {}],
    'writing': [{'writing': True}, {'signal': 'SIGTERM', 'iteration': 7}, {'writing': True}, {}],
}


TWO = {'processes': 2}
GROUPS = {
    'whole': [TWO],
    'one is asked': [{**TWO, 'signal': 'SIGTERM', 'iteration': 7, 'ranks': [1]}, TWO],
    'both are asked': [{**TWO, 'signal': 'SIGUSR1', 'iteration': 1}, {**TWO, 'signal': 'SIGTERM', 'iteration': 7}, TWO],
    'one is killed': [{**TWO, 'signal': 'SIGKILL', 'iteration': 7, 'ranks': [1]}, TWO],
}


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    return folder, execute(folder, {'epochs': 3, 'runs': RUNS})


@pytest.mark.parametrize('name', [name for name in RUNS if name != 'whole'])
def test_an_interrupted_run_ends_with_the_same_bits(runs, name):
    folder, results = runs
    assert [attempt['status'] for attempt in results['whole']] == [0], log(folder, 'whole')
    assert results[name][-1]['status'] == 0, log(folder, name)
    assert differences(folder, 'whole', name, 3) == []


def test_an_interrupted_refiner_has_the_same_neighbors_to_the_end(tmp_path):
    runs = {name: RUNS[name] for name in ('whole', 'killed')}
    results = execute(tmp_path, {'epochs': 3, 'runs': runs, 'method': 'refiner'})
    assert [results[name][-1]['status'] for name in runs] == [0, 0], log(tmp_path, 'killed')
    assert results['killed'][0]['saved'] == 5
    assert differences(tmp_path, 'whole', 'killed', 3) == []
    state = torch.load(tmp_path / 'killed' / 'epoch_3.pth', weights_only=False)['state_dict']
    assert state['heads.block2.queue.pushed'] == 3 * 4 * PER_EPOCH
    assert set(state['heads.block2.queue.ids'].tolist()) <= set(range(4 * PER_EPOCH))


def test_the_state_of_a_run_depends_on_what_was_drawn(runs):
    folder, _ = runs
    states = [torch.load(folder / 'whole' / f'epoch_{epoch}.pth', weights_only=False)['state_dict'] for epoch in (2, 3)]
    assert not torch.equal(states[0]['backbone.layers.0.ln1.weight'], states[1]['backbone.layers.0.ln1.weight'])


def test_a_kill_loses_what_came_after_the_last_checkpoint(runs):
    folder, results = runs
    attempt = results['killed'][0]
    assert (attempt['status'], attempt['reached'], attempt['saved']) == (-9, 7, 5)
    assert 'resumed epoch: 1, iter: 5' in log(folder, 'killed')


def test_a_signal_ends_the_run_clean_and_loses_nothing(runs):
    folder, results = runs
    attempt = results['terminated'][0]
    assert (attempt['status'], attempt['saved']) == (0, 8)
    assert 'SIGTERM requested a stop: saved iteration 8' in log(folder, 'terminated')
    assert 'continuing in epoch 2 after 3 of its iterations' in log(folder, 'terminated')
    assert [(attempt['status'], attempt['saved']) for attempt in results['twice'][:2]] == [(0, 3), (0, 5)]


def test_a_kill_inside_a_write_leaves_no_half_file(runs):
    _, results = runs
    first, _, third, _ = results['writing']
    assert (first['status'], first['saved']) == (-9, 0)
    assert (third['status'], third['saved']) == (-9, 8)


@pytest.fixture(scope='module')
def groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp('groups')
    return folder, execute(folder, {'epochs': 3, 'runs': GROUPS})


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in GROUPS if name != 'whole'])
def test_an_interrupted_run_of_two_processes_ends_with_the_same_bits(groups, name):
    folder, results = groups
    assert results['whole'][0]['statuses'] == [0, 0], log(folder, 'whole')
    assert results[name][-1]['statuses'] == [0, 0], log(folder, name)
    assert differences(folder, 'whole', name, 3) == []


@pytest.mark.slow
def test_two_processes_agree_when_to_stop_and_one_of_them_saves(groups):
    folder, results = groups
    assert [(results[name][0]['statuses'], results[name][0]['saved']) for name in GROUPS if name != 'whole'] == [
        ([0, 0], 9), ([0, 0], 3), ([70, -9], 5)]
    assert results['both are asked'][1]['saved'] == 9
    assert log(folder, 'one is asked').count('another process requested a stop: saved iteration 9') == 1
    assert log(folder, 'both are asked').count('requested a stop: saved') == 2


def assert_nothing_lost(folder, result, epochs):
    attempts = result['soak']
    for attempt in attempts:
        lost = max(0, attempt['reached'] + 1 - attempt['saved'])
        assert lost <= PER_EPOCH, attempt
    for name in {attempt['run'] for attempt in attempts}:
        assert differences(folder, 'whole', name, epochs) == [], name
    return Counter('writing' if attempt.get('writing') else attempt['signal'] for attempt in attempts)


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    result = execute(tmp_path, {'epochs': 4, 'runs': {}, 'soak': {'kills': 3, 'seed': 1}})
    assert sum(assert_nothing_lost(tmp_path, result, 4).values()) >= 3


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_fifty_times_at_random_moments_ends_with_the_same_bits(tmp_path):
    result = execute(tmp_path, {'epochs': 12, 'runs': {}, 'soak': {'kills': 50, 'seed': 0}})
    counts = assert_nothing_lost(tmp_path, result, 12)
    assert sum(counts.values()) >= 50
    assert set(counts) == {'SIGKILL', 'SIGTERM', 'SIGUSR1', 'writing'}


@pytest.mark.parametrize('method', ['fine-tuning', 'localmim with FreezeOut', 'self-distillation'])
def test_what_a_method_keeps_between_iterations_survives_a_kill_and_a_signal(tmp_path, method):
    """An average, mixup and validations; depths and schedules by depth; centers, a held layer, a rising decay."""
    plan = {'whole': [{}], 'again': [{'signal': 'SIGKILL', 'iteration': 9}, {'signal': 'SIGTERM', 'iteration': 11}, {}]}
    results = execute(tmp_path, {'epochs': 3, 'method': method, 'runs': plan})
    assert [attempt['status'] for attempt in results['again']] == [-9, 0, 0], log(tmp_path, 'again')
    assert differences(tmp_path, 'whole', 'again', 3) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_method_killed_fifty_times_in_all_ends_with_the_same_bits(tmp_path):
    result = execute(tmp_path, {'epochs': 4, 'runs': {}, 'methods': dict.fromkeys(METHODS, 7), 'seed': 3})
    counts = sum((assert_nothing_lost(tmp_path / method, {'soak': result[method]}, 4) for method in METHODS), Counter())
    assert sum(counts.values()) >= 50
    assert set(counts) == {'SIGKILL', 'SIGTERM', 'SIGUSR1', 'writing'}
