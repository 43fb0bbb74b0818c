"""The history is the host's, and the device is asked seldom."""

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from mm_graft.engine.reliability.deferred_info_hook import DeferredInfoHook
from tests.tiny import grafted_mocov3, settings

WRAPPER = dict(type='mm_graft.AutocastOptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor',
               paramwise_cfg=dict(stage_lr_mult=[0.1, 1.0]), optimizer=dict(type='AdamW', lr=1e-2),
               clip_grad=dict(max_norm=0.5))
DEFERRED = dict(type='mm_graft.DeferredInfoHook')


class Look(Hook):
    """Keeps how long the history of the loss is after every iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.lengths = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        history = runner.message_hub.log_scalars.get('train/loss')
        self.lengths.append(0 if history is None else len(history.data[0]))


def train(folder, info, epochs=2, interval=3, **kwargs):
    runner = Runner(**settings(
        grafted_mocov3(), folder, epochs=epochs, optim_wrapper=WRAPPER, default_hooks=dict(
            runtime_info=info, logger=dict(type='LoggerHook', interval=interval),
            checkpoint=dict(type='CheckpointHook', interval=1)), **kwargs))
    look = Look()
    runner.register_hook(look)
    runner.train()
    return runner, look.lengths


def history(runner, name):
    return runner.message_hub.get_scalar(f'train/{name}').data[0].tolist()


def test_every_number_is_the_hosts(tmp_path):
    (ours, _), (hosts, _) = (train(tmp_path / name, info) for name, info in (
        ('ours', DEFERRED), ('hosts', dict(type='RuntimeInfoHook'))))
    for name in ('loss', 'lr', 'grad_norm'):
        assert history(ours, name) == history(hosts, name)
        assert len(history(ours, name)) == 8


def test_it_is_read_where_it_is_logged(tmp_path):
    # four iterations an epoch, a line of the log after the third, all at the end of the epoch
    assert train(tmp_path / 'three', DEFERRED)[1] == [0, 0, 3, 4, 4, 4, 7, 8]
    assert train(tmp_path / 'two', {**DEFERRED, 'interval': 2}, epochs=1)[1] == [0, 2, 2, 4]


def test_a_checkpoint_holds_the_whole_history(tmp_path):
    class Save(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if batch_idx == 1:
                runner.save_checkpoint(str(tmp_path), 'middle.pth')

    train(tmp_path / 'run', DEFERRED, epochs=1, custom_hooks=[Save()])
    state = torch.load(tmp_path / 'middle.pth', weights_only=False)['message_hub']
    assert len(state['log_scalars']['train/loss'].data[0]) == 2


def test_what_is_kept_holds_no_graph():
    hook, weight = DeferredInfoHook(), torch.ones(2, requires_grad=True)
    hook.keep('train/loss', weight.sum())
    assert not hook.pending[0][1].requires_grad


def test_the_optimizer_wrapper_is_left_alone_afterwards(tmp_path):
    runner, _ = train(tmp_path / 'run', DEFERRED, epochs=1)
    assert runner.optim_wrapper.keep_norm is None
    assert MessageHub.get_current_instance().get_scalar('train/grad_norm').data[0].size == 4


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match='choose at least 1'):
        DeferredInfoHook(interval=0)
