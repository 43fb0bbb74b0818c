import logging
import os

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import Dataset

from mm_graft.engine.reliability.non_finite_guard_hook import NonFiniteGuardHook, Readback, not_finite


class ReadValues(TorchDispatchMode):
    """Keeps the operations that read a value of a tensor, for which a CPU would wait."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if '_local_scalar_dense' in str(func) or 'is_nonzero' in str(func):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


class Values(Dataset):

    def __init__(self, bad):
        self.bad = bad

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return {'inputs': torch.tensor(self.bad.get(index, 1.0))}


class Net(BaseModel):
    """Two terms: one of each parameter; the second sees the input; a third has no gradient."""

    def __init__(self):
        super().__init__()
        self.calm = torch.nn.Parameter(torch.ones(2))
        self.wild = torch.nn.Parameter(torch.ones(2))

    def forward(self, inputs, mode='loss', **kwargs):
        value = inputs.mean()
        if value == 7:  # a loss that no gradient belongs to
            return {'loss_calm': self.calm.sum(), 'loss_wild': self.wild.sum(), 'loss_aside': value / 0}
        return {'loss_calm': self.calm.sum(), 'loss_wild': (self.wild * value).sum()}


def train(folder, bad=None, patience=3, optim_wrapper=None, checkpoint='mm_graft.SafeCheckpointHook', guard=True,
          fused=False):
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1, fused=fused)) | (optim_wrapper or {})
    runner = Runner(
        model=Net(), work_dir=str(folder), experiment_name=os.urandom(4).hex(), optim_wrapper=wrapper,
        train_dataloader=dict(batch_size=1, dataset=Values(bad or {}), num_workers=0,
                              sampler=dict(type='DefaultSampler', shuffle=False),
                              collate_fn=dict(type='default_collate')),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1), log_level='WARNING',
        default_hooks=dict(logger=None, checkpoint=dict(type=checkpoint)))
    hook = NonFiniteGuardHook(patience)
    if guard:
        runner.register_hook(hook)
    return runner, hook


@pytest.fixture(params=['read at once', 'read one step later'])
def fused(request, monkeypatch):
    """Runs with a fused optimizer, on a CPU, and as on a GPU."""
    if request.param == 'read one step later':
        monkeypatch.setattr(NonFiniteGuardHook, '_waits', lambda self: False)
    return True


@pytest.fixture
def warnings(monkeypatch):
    found = []
    monkeypatch.setattr(logging.Logger, 'warning', lambda self, text, *args: found.append(str(text)))
    return found


def weights(runner):
    return torch.cat([param.detach() for param in runner.model.parameters()])


def steps_made(runner):
    return {int(state['step']) for state in runner.optim_wrapper.optimizer.state.values()}


@pytest.mark.parametrize('fused', [False, True])
def test_a_finite_run_is_that_without_the_guard(tmp_path, fused):
    results = []
    for guard in (True, False):
        runner, _ = train(tmp_path / str(guard), guard=guard, fused=fused)
        runner.train()
        results.append(weights(runner))
    assert torch.equal(*results)


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('clip', [{}, {'clip_grad': {'max_norm': 1.0}}])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_step_that_is_not_finite_changes_nothing_and_names_what_was(tmp_path, warnings, clip, value, fused):
    runner, hook = train(tmp_path, {2: value, 4: value}, optim_wrapper=clip, fused=fused)
    runner.train()
    assert weights(runner).isfinite().all()
    assert steps_made(runner) == {4}
    assert hook.counts.tolist() == [0, 2]
    assert [text for text in warnings if 'skipped' in text] == [
        f'iteration {iteration}: step skipped, 1 in a row, {total} in all; not finite: losses loss, loss_wild; '
        'gradients of 1 of 2 parameters (wild)' for iteration, total in ((2, 1), (4, 2))]


def test_the_step_left_out_is_as_if_the_batch_had_not_been(tmp_path):
    whole, _ = train(tmp_path / 'whole', {2: float('nan')})
    whole.train()
    without, _ = train(tmp_path / 'without')
    without._train_dataloader['dataset'] = torch.utils.data.Subset(Values({}), range(5))
    without.train()
    assert torch.equal(weights(whole), weights(without))


def test_a_fused_optimizer_names_each_step_by_its_own_iteration(tmp_path, warnings, fused):
    runner, hook = train(tmp_path, {0: float('nan'), 1: 7.0, 3: float('inf'), 5: float('nan')}, fused=fused)
    runner.train()
    assert [text.split(';')[0] for text in warnings if 'skipped' in text] == [
        'iteration 0: step skipped, 1 in a row, 1 in all', 'iteration 1: step skipped, 2 in a row, 2 in all',
        'iteration 3: step skipped, 1 in a row, 3 in all', 'iteration 5: step skipped, 1 in a row, 4 in all']
    assert next(text for text in warnings if 'iteration 1:' in text).endswith(
        'losses loss, loss_aside; gradients of 0 of 2 parameters ()')
    assert hook.unread is None


def test_while_all_is_finite_nobody_waits_for_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(NonFiniteGuardHook, '_waits', lambda self: False)
    runner, hook = train(tmp_path, fused=True)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook.before_train(runner)
    optimizer = runner.optim_wrapper.optimizer
    monkeypatch.setattr(optimizer, 'step', lambda: None)  # on a CPU the optimizer itself reads what it is told
    with ReadValues() as read:
        torch.ones(1).item()
    assert read.found != []
    with ReadValues() as read:
        for _ in range(3):
            loss = runner.model.calm.sum()
            runner.optim_wrapper.update_params(loss)
            hook.after_train_iter(runner, 0, outputs={'loss': loss})
    assert read.found == []
    assert hook.unread is not None


def test_numbers_come_back_as_they_left():
    numbers = torch.tensor([3, 5])
    readback = Readback(numbers)
    numbers.zero_()
    assert readback.read() == [3, 5]


@pytest.mark.parametrize('fused', [False, True])
def test_a_loss_counts_though_no_gradient_belongs_to_it(tmp_path, warnings, fused):
    runner, _ = train(tmp_path, {3: 7.0}, fused=fused)
    runner.train()
    assert steps_made(runner) == {5}
    assert any('losses loss, loss_aside; gradients of 0 of 2' in text for text in warnings)


def test_an_accumulated_step_counts_all_its_losses(tmp_path):
    runner, hook = train(tmp_path, {0: 7.0}, optim_wrapper={'accumulative_counts': 2})
    runner.train()
    assert hook.counts.tolist() == [0, 1]
    assert steps_made(runner) == {2}


@pytest.mark.parametrize('patience', [1, 2, 3])
def test_patience_is_the_number_of_steps_in_a_row_and_not_one_more(tmp_path, fused, patience):
    bad = dict.fromkeys((1, 2, 3, 4, 5), float('nan'))
    runner, hook = train(tmp_path, bad, fused=fused, patience=patience)
    with pytest.raises(RuntimeError, match=rf'{patience} steps in a row were not finite; the state .*stopped\.pth'):
        runner.train()
    assert runner.iter == patience
    assert hook.counts.tolist() == [patience, patience]


def test_steps_that_are_not_in_a_row_do_not_end_the_run(tmp_path, fused):
    runner, _ = train(tmp_path, dict.fromkeys((0, 1, 3, 4), float('nan')), fused=fused, patience=3)
    runner.train()
    assert steps_made(runner) == {2}


@pytest.mark.parametrize('fused', [False, True])
def test_several_in_a_row_end_the_run_with_the_state_from_before(tmp_path, fused):
    runner, _ = train(tmp_path, dict.fromkeys((2, 3, 4), float('nan')), fused=fused)
    with pytest.raises(RuntimeError, match=r'3 steps in a row were not finite; the state .*stopped\.pth.*loss_wild'):
        runner.train()
    saved = torch.load(tmp_path / 'stopped.pth', weights_only=False)
    assert saved['meta']['iter'] == 5
    assert all(value.isfinite().all() for value in saved['state_dict'].values())


def test_the_optimizer_wrapper_is_left_as_it_was(tmp_path):
    runner, _ = train(tmp_path, fused=True)
    runner.train()
    wrapper = runner.optim_wrapper
    assert not {'backward', 'step'} & set(vars(wrapper))
    assert 'found_inf' not in vars(wrapper.optimizer)


def test_without_a_hook_that_can_save_it_ends_all_the_same(tmp_path):
    runner, _ = train(tmp_path, {0: float('nan')}, patience=1, checkpoint='CheckpointHook')
    with pytest.raises(RuntimeError, match=r'1 steps in a row were not finite\. iteration 0'):
        runner.train()


@pytest.mark.parametrize(('value', 'bad'), [(1., False), (3e38, False), (float('nan'), True), (-float('inf'), True)])
@pytest.mark.parametrize('place', [0, 3])
def test_every_element_counts(value, bad, place):
    tensors = [torch.zeros(2, 2), torch.zeros(5, dtype=torch.bfloat16), torch.zeros(())]
    tensors[place % 2].view(-1)[place] = value
    assert not_finite(tensors).tolist() == [bad and place % 2 == 0, bad and place % 2 == 1, False]


def test_of_accumulated_iterations_all_terms_are_named(tmp_path, warnings):
    runner, _ = train(tmp_path, {2: float('nan')}, optim_wrapper={'accumulative_counts': 2})
    runner.train()
    assert [text.split(';')[0] for text in warnings if 'skipped' in text] == [
        'iteration 3: step skipped, 1 in a row, 1 in all']
    assert any('losses loss, loss_wild;' in text for text in warnings)


def test_more_than_five_parameters_are_counted_and_five_named(tmp_path, warnings):
    runner, _ = train(tmp_path, {2: float('nan')})
    for name in 'abcdef':
        runner.model.register_parameter(name, torch.nn.Parameter(torch.ones(1)))
    forward = type(runner.model).forward

    def with_more(self, inputs, mode='loss', **kwargs):
        more = sum(getattr(self, name).sum() for name in 'abcdef') * inputs.mean()
        return forward(self, inputs, mode) | {'loss_more': more}

    runner.model.forward = with_more.__get__(runner.model)
    runner.train()
    assert any('gradients of 7 of 8 parameters (wild, a, b, c, d and 2 more)' in text for text in warnings)


def test_patience_below_one_is_refused():
    with pytest.raises(ValueError, match='patience=0 counts steps in a row; choose at least 1'):
        NonFiniteGuardHook(0)
