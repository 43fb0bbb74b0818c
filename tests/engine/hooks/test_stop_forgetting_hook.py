import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mm_graft.engine.hooks.stop_forgetting_hook import StepBackHook, StopForgettingHook


class Counter(BaseModel):
    """Its weight is the number of steps that were taken."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, inputs, mode='tensor'):
        return {'loss': -self.weight * torch.stack(inputs).mean()}


class Scores(Hook):
    """Gives scores of each epoch as the online evaluation does, those of the start first."""

    priority = 'LOW'

    def __init__(self, **by_name):
        self.by_name = by_name

    def give(self, runner, epoch):
        for name, values in self.by_name.items():
            runner.message_hub.update_scalar(f'val/{name}', values[epoch])

    def before_train(self, runner):
        if runner.iter == 0:
            self.give(runner, 0)

    def after_train_epoch(self, runner):
        self.give(runner, runner.epoch + 1)


def train(folder, hooks, resume=False):
    runner = Runner(
        Counter(), str(folder), default_scope='mmpretrain', custom_hooks=hooks, resume=resume,
        train_dataloader={'batch_size': 1, 'dataset': [{'inputs': torch.ones(1)}],
                          'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 1.0}}, train_cfg={'by_epoch': True, 'max_epochs': 4},
        default_hooks={'checkpoint': {'type': 'mm_graft.SafeCheckpointHook', 'interval': 1}},
        experiment_name=f'{folder.name}_{resume}', log_level='ERROR')
    runner.train()
    return runner.model.weight.item()


OLD = [70.0, 71.0, 68.0, 67.5, 40.0]


@pytest.mark.parametrize(('max_drop', 'epochs'), [(1.0, 2), (2.0, 3), (2.5, 4), (100.0, 4)])
def test_the_run_stops_after_the_first_epoch_that_lost_more_than_is_allowed(tmp_path, max_drop, epochs):
    assert train(tmp_path, [Scores(old_knn_top1=OLD), StopForgettingHook(max_drop)]) == epochs


def test_a_loss_is_counted_from_the_start_and_not_from_the_best(tmp_path):
    assert train(tmp_path, [Scores(old_knn_top1=[70.0, 90.0, 70.0, 70.0, 70.0]), StopForgettingHook(0.0)]) == 4


def test_a_stopped_run_stays_stopped_when_it_is_resumed_unless_more_is_allowed(tmp_path):
    scores = Scores(old_knn_top1=OLD)
    assert train(tmp_path, [scores, StopForgettingHook(1.0)]) == 2
    assert train(tmp_path, [scores, StopForgettingHook(1.0)], resume=True) == 2
    assert train(tmp_path, [scores, StopForgettingHook(2.0)], resume=True) == 3


@pytest.mark.parametrize(('new', 'kept'), [
    ([40.0, 45.0, 44.0, 50.0, 60.0], 1),  # the second is worse, the third forgets
    ([40.0, 45.0, 46.0, 50.0, 60.0], 2),
    ([40.0, 39.0, 38.0, 50.0, 60.0], 0),  # nothing was won: the weights of the start
])
def test_stepping_back_ends_with_the_best_of_those_that_kept_enough(tmp_path, new, kept):
    hooks = [Scores(old_knn_top1=OLD, new_knn_top1=new), StepBackHook(2.0)]
    assert train(tmp_path, hooks) == kept
    last = torch.load(tmp_path / 'epoch_3.pth', weights_only=False)['state_dict']
    assert last['weight'] == torch.load(tmp_path / 'kept.pth', weights_only=False)['state_dict']['weight'] == kept


def test_a_run_that_keeps_enough_is_not_stepped_back(tmp_path):
    scores = Scores(old_knn_top1=OLD, new_knn_top1=[40.0, 45.0, 44.0, 43.0, 42.0])
    assert train(tmp_path, [scores, StepBackHook(50.0)]) == 4
    assert torch.load(tmp_path / 'kept.pth', weights_only=False)['state_dict']['weight'] == 1


def test_a_resumed_run_without_the_weights_to_step_back_to_is_refused_at_once(tmp_path):
    scores = Scores(old_knn_top1=OLD, new_knn_top1=[40.0] * 5)
    train(tmp_path, [scores, StepBackHook(50.0)])
    for epoch in (3, 4):
        (tmp_path / f'epoch_{epoch}.pth').unlink()
    assert train(tmp_path, [scores, StepBackHook(50.0)], resume=True) == 4
    (tmp_path / 'kept.pth').unlink()
    assert train(tmp_path, [scores, StepBackHook(50.0)], resume=True) == 4  # finished
    for epoch in (3, 4):
        (tmp_path / f'epoch_{epoch}.pth').unlink()
    with pytest.raises(ValueError, match=r'has no kept\.pth, to which this resumed run would step back; copy it'):
        train(tmp_path, [scores, StepBackHook(50.0)], resume=True)


def test_scores_can_have_other_names(tmp_path):
    scores = Scores(old_knn_top1=[0.0] * 5, b=[9.0, 9.0, 1.0, 1.0, 1.0], a=[1.0, 2.0, 3.0, 3.0, 3.0])
    assert train(tmp_path, [scores, StepBackHook(1.0, score='b', gain='a')]) == 1


def test_a_missing_score_and_a_negative_amount_are_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match=r"nothing gives old_knn_top1, known are \['knn_top1'\]"):
        train(tmp_path, [Scores(knn_top1=OLD), StopForgettingHook(1.0)])
    with pytest.raises(ValueError, match='max_drop=-1'):
        StopForgettingHook(-1)
    with pytest.raises(ValueError, match='max_drop=nan'):
        StopForgettingHook(float('nan'))
