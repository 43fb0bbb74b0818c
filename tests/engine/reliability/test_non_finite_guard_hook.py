import logging
import os

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mm_graft.engine.reliability.non_finite_guard_hook import NonFiniteGuardHook, Tally, not_finite
from tests.test_no_waiting import Watch


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
          fused=False, interval=10):
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1, fused=fused)) | (optim_wrapper or {})
    runner = Runner(
        model=Net(), work_dir=str(folder), experiment_name=os.urandom(4).hex(), optim_wrapper=wrapper,
        train_dataloader=dict(batch_size=1, dataset=Values(bad or {}), num_workers=0,
                              sampler=dict(type='DefaultSampler', shuffle=False),
                              collate_fn=dict(type='default_collate')),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1), log_level='WARNING',
        default_hooks=dict(logger=None, checkpoint=dict(type=checkpoint)))
    hook = NonFiniteGuardHook(patience, interval)
    if guard:
        runner.register_hook(hook)
    return runner, hook


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
    runner, hook = train(tmp_path, {2: value, 4: value}, optim_wrapper=clip, fused=fused, interval=1)
    runner.train()
    assert weights(runner).isfinite().all()
    assert steps_made(runner) == {4}
    assert hook.steps.tolist() == [0, 0, 2]
    text = [text for text in warnings if 'steps left out' in text]
    assert len(text) == 2
    assert 'iteration 2: steps left out, 1 in a row, 1 in all' in text[0]
    assert 'losses loss (1 times), loss_wild (1 times); gradients of 1 of 2 parameters (wild)' in text[0]
    assert 'iteration 4: steps left out, 1 in a row, 2 in all' in text[1]


def test_the_step_left_out_is_as_if_the_batch_had_not_been(tmp_path):
    whole, _ = train(tmp_path / 'whole', {2: float('nan')})
    whole.train()
    without, _ = train(tmp_path / 'without')
    without._train_dataloader['dataset'] = torch.utils.data.Subset(Values({}), range(5))
    without.train()
    assert torch.equal(weights(whole), weights(without))


def test_a_fused_optimizer_is_looked_at_now_and_then(tmp_path, warnings):
    runner, _ = train(tmp_path, {0: float('nan'), 1: float('nan'), 3: float('inf')}, fused=True, interval=4)
    runner.train()
    text = [text for text in warnings if 'steps left out' in text]
    assert len(text) == 1
    assert 'iteration 3: steps left out, 2 in a row, 3 in all' in text[0]
    assert 'loss_wild (3 times); gradients of 1 of 2' in text[0]


def test_with_a_fused_optimizer_nobody_waits(tmp_path):
    runner, hook = train(tmp_path, fused=True)
    runner.train()
    runner.train_loop._iter = 0
    hook._step = lambda: None  # on a CPU the optimizer itself reads what it is told
    with Watch() as watch:
        loss = runner.model.calm.sum()
        runner.optim_wrapper.update_params(loss)
        hook.after_train_iter(runner, 0, outputs={'loss': loss})
    assert watch.found == []


@pytest.mark.parametrize('fused', [False, True])
def test_a_loss_counts_though_no_gradient_belongs_to_it(tmp_path, warnings, fused):
    runner, _ = train(tmp_path, {3: 7.0}, fused=fused)
    runner.train()
    assert steps_made(runner) == {5}
    assert any('loss_aside (1 times); gradients of 0 of 2' in text for text in warnings)


def test_an_accumulated_step_counts_all_its_losses(tmp_path):
    runner, hook = train(tmp_path, {0: 7.0}, optim_wrapper={'accumulative_counts': 2})
    runner.train()
    assert hook.steps.tolist() == [0, 0, 1]
    assert steps_made(runner) == {2}


@pytest.mark.parametrize('fused', [False, True])
def test_several_in_a_row_end_the_run_with_the_state_from_before(tmp_path, fused):
    runner, _ = train(tmp_path, dict.fromkeys((2, 3, 4), float('nan')), fused=fused, interval=5)
    with pytest.raises(RuntimeError, match=r'3 steps in a row were not finite; the state .*stopped\.pth.*loss_wild'):
        runner.train()
    saved = torch.load(tmp_path / 'stopped.pth', weights_only=False)
    assert saved['meta']['iter'] == 5
    assert all(value.isfinite().all() for value in saved['state_dict'].values())


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


def test_a_tally_survives_that_something_is_frozen():
    tally = Tally()
    assert tally.take() == {}
    tally.add(('a', 'b'), torch.tensor([True, False]))
    tally.add(('b', ), torch.tensor([True]))
    tally.add(('b', ), torch.tensor([True]))
    assert tally.take() == {'a': 1, 'b': 2}
    assert tally.take() == {}


@pytest.mark.parametrize('wrong', [{'patience': 0}, {'interval': 0}])
def test_numbers_below_one_are_refused(wrong):
    with pytest.raises(ValueError, match='choose 1 or more'):
        NonFiniteGuardHook(**wrong)
