from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner

from mm_graft.commands import run_defaults
from mm_graft.commands.run_defaults import (
    log_interval,
    settle_loaders,
    settle_log,
    share_of_cores,
    usable_cores,
    workers_for,
)
from tests.tiny import grafted_mocov3, settings

LAUNCHED = ('LOCAL_WORLD_SIZE', 'SLURM_NTASKS_PER_NODE', 'SLURM_CPUS_PER_TASK', 'OMPI_COMM_WORLD_LOCAL_SIZE')


@pytest.fixture
def _sixteen_cores_and_a_gpu(monkeypatch):
    monkeypatch.setattr(run_defaults.os, 'sched_getaffinity', lambda pid: set(range(16)), raising=False)
    monkeypatch.setattr(run_defaults.torch.cuda, 'is_available', lambda: True)
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(('launcher', 'environment', 'cores'), [
    ('none', {}, 16), ('none', {'LOCAL_WORLD_SIZE': '4'}, 16), ('pytorch', {'LOCAL_WORLD_SIZE': '4'}, 4),
    ('pytorch', {'LOCAL_WORLD_SIZE': '32'}, 1), ('mpi', {'OMPI_COMM_WORLD_LOCAL_SIZE': '2'}, 8),
    ('slurm', {'SLURM_NTASKS_PER_NODE': '8'}, 2), ('slurm', {'SLURM_NTASKS_PER_NODE': '8(x2)'}, 16),
    ('slurm', {'SLURM_NTASKS_PER_NODE': '8', 'SLURM_CPUS_PER_TASK': '5'}, 5),
    ('slurm', {'SLURM_CPUS_PER_TASK': '64'}, 16)])
@pytest.mark.usefixtures('_sixteen_cores_and_a_gpu')
def test_the_processes_of_a_machine_share_the_cores_they_may_use(launcher, environment, cores, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert share_of_cores(launcher) == cores


def test_a_system_without_affinity_counts_its_cores(monkeypatch):
    monkeypatch.delattr(run_defaults.os, 'sched_getaffinity')
    monkeypatch.setattr(run_defaults.os, 'cpu_count', lambda: 3)
    assert usable_cores() == 3
    monkeypatch.setattr(run_defaults.os, 'cpu_count', lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(('cores', 'gpu', 'workers'), [
    (1, True, 1), (2, True, 1), (8, True, 7), (64, True, 16), (1, False, 1), (2, False, 2), (64, False, 2)])
def test_a_gpu_is_fed_by_all_cores_but_one_and_a_cpu_trains_itself(cores, gpu, workers):
    assert workers_for(cores, gpu) == workers


@pytest.mark.usefixtures('_sixteen_cores_and_a_gpu')
def test_open_loaders_get_workers_and_given_numbers_stay(monkeypatch):
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    cfg = Config(dict(launcher='pytorch', train_dataloader=dict(batch_size=2), val_dataloader=dict(num_workers=3),
                      test_dataloader=None))
    said = settle_loaders(cfg)
    assert cfg.train_dataloader == dict(batch_size=2, num_workers=7, persistent_workers=True)
    assert cfg.val_dataloader == dict(num_workers=3, persistent_workers=True)
    assert '7 workers for train_dataloader: this process has 8 cores' in said
    assert settle_loaders(cfg) is None


def test_what_is_for_workers_only_follows_their_number():
    loaders = dict(train_dataloader=dict(num_workers=0, persistent_workers=True, prefetch_factor=2),
                   val_dataloader=dict(num_workers=2, persistent_workers=False, prefetch_factor=2))
    cfg = Config(loaders)
    assert settle_loaders(cfg) is None
    assert cfg.train_dataloader == dict(num_workers=0, persistent_workers=False)
    assert cfg.val_dataloader == loaders['val_dataloader']
    assert settle_loaders(Config({})) is None


@pytest.mark.parametrize(('length', 'interval'), [(1, 1), (6, 6), (100, 100), (101, 50), (150, 75), (1000, 100),
                                                  (1001, 91), (1251, 96)])
def test_a_long_epoch_is_cut_into_equal_parts_and_a_short_one_has_one_line(length, interval):
    assert log_interval(length) == interval
    assert length - length // interval * interval < interval  # the last line is not far from the end


@pytest.mark.parametrize(('loop', 'said', 'interval'), [
    (dict(by_epoch=True, max_epochs=3), '4 iterations of an epoch', 4),
    (dict(type='IterBasedTrainLoop', max_iters=250), '250 iterations of the run', 83)])
@pytest.mark.parametrize('given', [None, 7])
def test_the_log_follows_the_length_unless_an_interval_is_given(loop, said, interval, given, tmp_path):
    hooks = dict(logger=dict(type='LoggerHook', **({} if given is None else {'interval': given})))
    parts = settings(grafted_mocov3(), tmp_path / 'run', train_cfg=loop, default_hooks=hooks)
    runner = Runner(**parts, cfg=Config(dict(default_hooks=hooks)))
    line = settle_log(runner)
    hook = next(hook for hook in runner.hooks if isinstance(hook, LoggerHook))
    assert hook.interval == (given or interval)
    assert (line is None) if given else (said in line)


def test_a_run_without_a_log_has_no_interval():
    assert settle_log(SimpleNamespace(cfg=Config(dict(default_hooks=dict(logger=None))), hooks=[LoggerHook()])) is None
    assert settle_log(SimpleNamespace(cfg=Config({}), hooks=[])) is None
