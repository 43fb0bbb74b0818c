import os
import re
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, EMAHook, IterTimerHook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.multiprocessing import ProcessRaisedException

from mm_graft.commands import run_guards
from mm_graft.commands.first_look import FirstLookHook
from mm_graft.commands.run_guards import check_hooks, guard_config, guard_run, take_folder
from mm_graft.commands.train import merge_args
from mm_graft.engine.hooks.online_knn_hook import OnlineKNNHook
from mm_graft.engine.reliability.due_validation_hook import DueValidationHook
from mm_graft.engine.reliability.rng_state_hook import RNGStateHook
from mm_graft.engine.reliability.safe_checkpoint_hook import SafeCheckpointHook
from tests.own_process import in_processes


def guarded(**hooks):
    cfg = Config(dict(default_hooks=hooks) if hooks else {})
    guard_config(cfg)
    return cfg.default_hooks.checkpoint


@pytest.mark.parametrize('saver', [{}, {'checkpoint': {}}, {'checkpoint': dict(type='CheckpointHook')}])
def test_the_hosts_checkpoints_become_safe_ones_with_the_hosts_interval(saver):
    assert guarded(**saver) == dict(type='mm_graft.SafeCheckpointHook', interval=1)


def test_what_a_config_says_of_its_checkpoints_stays():
    assert guarded(checkpoint=dict(interval=5, by_epoch=False)) == dict(
        type='mm_graft.SafeCheckpointHook', interval=5, by_epoch=False)
    assert guarded(checkpoint=dict(type='Own')) == dict(type='Own')
    assert guarded(checkpoint=None) is None


def test_schedules_need_the_hook_that_moves_them():
    schedule, none = dict(type='PolyLR'), dict(param_scheduler=None)
    with pytest.raises(ValueError, match=r'default_hooks\.param_scheduler=None: nothing would move'):
        guard_config(Config(dict(param_scheduler=schedule, default_hooks=none)))
    guard_config(Config(dict(param_scheduler=None, default_hooks=none)))
    guard_config(Config(dict(param_scheduler=schedule)))


@pytest.mark.parametrize('device', ['cpu', 'mps', 'cuda'])
def test_scaled_gradients_need_a_gpu_and_the_flag_without_them_is_named(device, monkeypatch):
    monkeypatch.setattr(run_guards, 'get_device', lambda: device)
    guard_config(Config(dict(optim_wrapper=dict(type='mm_graft.AutocastOptimWrapper'))))
    scaled = Config(dict(optim_wrapper=dict(type='AmpOptimWrapper')))
    with nullcontext() if device == 'cuda' else pytest.raises(ValueError, match=f'this {device} cannot .*--amp'):
        guard_config(scaled)
    guard_config(merge_args(scaled, SimpleNamespace(
        amp=True, launcher='none', work_dir='w', tracker=None, no_validate=False, init=None, resume=None,
        auto_scale_lr=False)))


def checkpoint(path):
    path.parent.mkdir(parents=True)
    torch.save({'meta': {'iter': 4}, 'optimizer': {}}, path)


def run(work_dir, **keys):
    return Config(dict(work_dir=str(work_dir), launcher='none', **keys))


def test_a_used_folder_is_refused_before_anything_is_written(tmp_path):
    checkpoint(tmp_path / 'used' / 'epoch_1.pth')
    with pytest.raises(ValueError, match='has the checkpoints of a run'):
        take_folder(run(tmp_path / 'used'))
    take_folder(run(tmp_path / 'used', resume=True, load_from=None))
    take_folder(run(tmp_path / 'new'))
    assert os.listdir(tmp_path / 'new') == ['.run.lock']


def take(_, cfg):
    take_folder(cfg)


def test_checkpoints_that_go_elsewhere_are_looked_for_there(tmp_path):
    checkpoint(tmp_path / 'out' / 'run' / 'epoch_1.pth')
    hooks = dict(checkpoint=dict(out_dir=str(tmp_path / 'out')))
    with pytest.raises(ValueError, match=r'out/run has the checkpoints of a run'):
        take_folder(run(tmp_path / 'run', default_hooks=hooks))
    with pytest.raises(ProcessRaisedException, match='another run is using'):
        in_processes(take, run(tmp_path / 'other' / 'run', default_hooks=hooks))


def test_the_main_process_alone_takes_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    cfg = run(tmp_path / 'run')
    cfg.launcher = 'pytorch'
    take_folder(cfg)
    assert not (tmp_path / 'run').exists()
    monkeypatch.setenv('RANK', '0')
    take_folder(cfg)
    assert (tmp_path / 'run').is_dir()


def test_each_hook_is_added_once():
    runner = SimpleNamespace(hooks=[], cfg=Config({}), train_loop=None, _resume=False)
    runner.register_hook = runner.hooks.append
    guard_run(runner)
    guard_run(runner)
    assert [type(hook) for hook in runner.hooks] == [FirstLookHook, DueValidationHook]


@pytest.mark.parametrize(('wrapper', 'place'), [
    (dict(clip_grad=dict(max_norm=0)), r'optim_wrapper\.clip_grad\.max_norm=0'),
    (dict(clip_grad=dict(clip_value=-1.0)), r'clip_grad\.clip_value=-1\.0'),
    (dict(encoder=dict(clip_grad=dict(max_norm=0.0))), r'optim_wrapper\.encoder\.clip_grad\.max_norm=0\.0')])
def test_gradients_that_are_clipped_to_nothing_are_refused(wrapper, place):
    with pytest.raises(ValueError, match=f'{place} leaves nothing of any gradient'):
        guard_config(Config(dict(optim_wrapper=wrapper)))
    guard_config(Config(dict(optim_wrapper=dict(clip_grad=dict(max_norm=0.1)))))


def iterations(schedule, **loop):
    return Config(dict(train_cfg=loop or dict(type='IterBasedTrainLoop', max_iters=9), param_scheduler=schedule))


@pytest.mark.parametrize('schedule', [
    dict(type='StepLR', step_size=2), [dict(type='PolyLR', by_epoch=False), dict(type='StepLR', by_epoch=True)],
    dict(type='mm_graft.WarmupCosineLR', warmup=1, convert_to_iter_based=True), dict(one=[dict(type='ExponentialLR')])])
def test_a_schedule_by_epochs_is_refused_in_a_run_of_iterations(schedule):
    for loop in (dict(type='IterBasedTrainLoop', max_iters=9), dict(type='mmengine.IterBasedTrainLoop', max_iters=9),
                 dict(by_epoch=False, max_iters=9)):
        with pytest.raises(ValueError, match=r'param_scheduler.* counts epochs, and this run counts iterations'):
            guard_config(iterations(schedule, **loop))
    guard_config(iterations(schedule, type='EpochBasedTrainLoop', max_epochs=3))
    guard_config(iterations(schedule, by_epoch=True, max_epochs=3))


@pytest.mark.parametrize('schedule', [
    None, [], dict(type='PolyLR', by_epoch=False), dict(type='LinearLR', end=3, convert_to_iter_based=True)])
def test_a_schedule_by_iterations_or_with_its_end_in_epochs_passes(schedule):
    guard_config(iterations(schedule))


def run_of(loop, *hooks):
    said = []
    logger = SimpleNamespace(warning=said.append)
    check_hooks(SimpleNamespace(hooks=hooks, train_loop=loop.__new__(loop), logger=logger, _resume=False))
    return said


def test_a_resume_needs_the_hook_that_compares_settings():
    run = SimpleNamespace(hooks=[CheckpointHook()], train_loop=None, _resume=True)
    with pytest.raises(ValueError, match=r'without mm_graft\.SafeCheckpointHook .* silently keep'):
        check_hooks(run)
    check_hooks(SimpleNamespace(hooks=[SafeCheckpointHook()], train_loop=None, _resume=True))
    check_hooks(SimpleNamespace(hooks=[CheckpointHook()], train_loop=None, _resume=False))


@pytest.mark.parametrize('hooks', [
    (RNGStateHook(), RNGStateHook()), (SafeCheckpointHook(), CheckpointHook()), (EMAHook(), LoggerHook(), EMAHook())])
def test_a_hook_that_keeps_a_state_of_the_run_is_refused_the_second_time(hooks):
    with pytest.raises(ValueError, match=r'has 2 hooks of the kind \w+, .*leave those in custom_hooks out'):
        run_of(EpochBasedTrainLoop, *hooks)


def test_two_hooks_that_do_not_meet_pass():
    assert run_of(EpochBasedTrainLoop, IterTimerHook(), IterTimerHook(), RNGStateHook(), SafeCheckpointHook(),
                  CheckpointHook(out_dir='elsewhere')) == []


def test_a_hook_that_counts_epochs_is_named_in_a_run_of_iterations():
    hooks = SafeCheckpointHook(interval=5), OnlineKNNHook()
    saver, score = run_of(IterBasedTrainLoop, *hooks)
    assert re.match('SafeCheckpointHook counts epochs.*default_hooks.checkpoint by_epoch=False', saver)
    assert re.match('OnlineKNNHook counts epochs, and this run counts iterations, so that it .* only$', score)
    assert run_of(EpochBasedTrainLoop, *hooks) == run_of(IterBasedTrainLoop, SafeCheckpointHook(by_epoch=False)) == []
