from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import distributed, nn

from mm_graft.engine.reliability.gradient_carry import (
    GRADIENTS,
    HOST_WARNING,
    at_step,
    gather_gradients,
    restore_gradients,
)
from mm_graft.process_group import leave_group
from tests.own_process import in_processes
from tests.resumed_parts import LENGTH, StoppedError, run, state

THREE = {'optim_wrapper.accumulative_counts': 3}  # epochs of four iterations end within a step, but for the third


class Kill(Hook):
    """Ends a run before an iteration, and saves nothing."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise StoppedError


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole') / 'run'
    run(folder, THREE)
    return state(folder)


def same(left, right):
    return all(torch.equal(left['state_dict'][name], right['state_dict'][name]) for name in left['state_dict']) and all(
        torch.equal(left['optimizer']['state'][index][name], moments[name])
        for index, moments in right['optimizer']['state'].items() for name in ('exp_avg', 'exp_avg_sq'))


@pytest.mark.parametrize('iteration', [LENGTH + 1, 2 * LENGTH + 2, 3 * LENGTH + 1, 4 * LENGTH - 1])
def test_a_kill_within_a_step_changes_no_bit(whole, tmp_path, iteration, capsys):
    run(tmp_path / 'run', THREE, hooks=(Kill(iteration),))
    assert bool(state(tmp_path / 'run', f'epoch_{iteration // LENGTH}.pth').get(GRADIENTS)) == (iteration < 3 * LENGTH)
    run(tmp_path / 'run', THREE, resume=True)
    assert same(whole, state(tmp_path / 'run'))
    assert HOST_WARNING not in capsys.readouterr().out


def test_a_state_saved_within_a_step_has_its_gradients(whole, tmp_path):
    run(tmp_path / 'run', THREE, stop=2 * LENGTH + 3)
    assert state(tmp_path / 'run', 'stopped.pth')[GRADIENTS]
    run(tmp_path / 'run', THREE, resume=True)
    assert same(whole, state(tmp_path / 'run'))


def test_without_the_gradients_the_run_would_be_another(whole, tmp_path, capsys):
    run(tmp_path / 'run', THREE, hooks=(Kill(2 * LENGTH + 1),))
    content = state(tmp_path / 'run', 'epoch_2.pth')
    del content[GRADIENTS]
    torch.save(content, tmp_path / 'run' / 'epoch_2.pth')
    run(tmp_path / 'run', THREE, resume=True)
    assert not same(whole, state(tmp_path / 'run'))
    assert HOST_WARNING in capsys.readouterr().out


def test_gradients_of_another_number_of_iterations_are_left_out_and_named(tmp_path):
    run(tmp_path / 'run', THREE, hooks=(Kill(2 * LENGTH + 1),))
    _, said = run(tmp_path / 'run', {'optim_wrapper.accumulative_counts': 2}, resume=True)
    line, = (line for line in said if 'are dropped' in line)
    assert 'optim_wrapper.accumulative_counts: 3 → 2' in line


def test_a_whole_step_has_nothing_to_carry():
    runner = SimpleNamespace(optim_wrapper=OptimWrapper(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)))
    assert at_step(runner)
    assert gather_gradients(runner) == {}


class Two(nn.Module):

    def __init__(self):
        super().__init__()
        self.both, self.one, self.none = (nn.Parameter(torch.zeros(2)) for _ in range(3))


def gather(rank, folder):
    distributed.init_process_group('gloo', store=distributed.FileStore(f'{folder}/store', 2), rank=rank, world_size=2)
    model = Two()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), accumulative_counts=2)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper)
    wrapper.initialize_count_status(model, 1, 100)
    model.both.grad, model.one.grad = torch.full((2, ), rank + 1.), torch.full((2, ), 4.) if rank else None
    torch.save((gather_gradients(runner), model.both.grad, model.one.grad), f'{folder}/{rank}.pth')
    leave_group()


def test_processes_go_on_with_the_mean_of_what_each_has(tmp_path):
    in_processes(gather, str(tmp_path), processes=2)
    main, other = (torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1))
    assert other[0] == {}
    assert {name: value.tolist() for name, value in main[0].items()} == {'both': [1.5, 1.5], 'one': [2., 2.]}
    for _, both, one in (main, other):
        assert (both.tolist(), one.tolist()) == ([1.5, 1.5], [2., 2.])


def test_a_frozen_parameter_takes_no_gradient():
    model = Two()
    model.one.requires_grad_(False)
    runner = SimpleNamespace(model=model, logger=SimpleNamespace(info=lambda line: None))
    restore_gradients(runner, {'both': torch.ones(2), 'one': torch.ones(2)})
    assert model.both.grad.tolist() == [1., 1.]
    assert model.one.grad is model.none.grad is None
