"""Runs that are followed by trackers, none of which needs a network."""

import importlib.util
import json

import pytest
from mmengine.config import Config

from mm_graft.commands import trackers
from mm_graft.commands.trackers import set_trackers


def installed(name):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f'{name} is not installed')


def test_without_the_flag_the_config_decides_and_with_it_only_what_it_names(monkeypatch):
    monkeypatch.setattr(trackers, 'find_spec', lambda name: True)
    cfg = Config(dict(work_dir='work_dirs/mine', visualizer=dict(type='UniversalVisualizer', vis_backends=['theirs'])))
    set_trackers(cfg, None)
    assert cfg.visualizer.vis_backends == ['theirs']
    set_trackers(cfg, ['wandb', 'tensorboard', 'wandb'])
    assert [backend.type for backend in cfg.visualizer.vis_backends] == [
        'LocalVisBackend', 'WandbVisBackend', 'TensorboardVisBackend']
    assert cfg.visualizer.type == 'UniversalVisualizer'
    assert cfg.visualizer.vis_backends[1].init_kwargs == dict(project='mm_graft', name='mine')


def test_mlflow_writes_where_its_variable_says_or_into_the_folder_of_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(trackers, 'find_spec', lambda name: True)
    cfg = Config(dict(work_dir=str(tmp_path / 'run'), train_cfg={}))
    monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
    set_trackers(cfg, ['mlflow'])
    backend = cfg.visualizer.vis_backends[1]
    assert backend.tracking_uri == f'sqlite:///{tmp_path}/run/mlflow.db'
    assert backend.tracked_config_keys == ['train_cfg']
    monkeypatch.setenv('MLFLOW_TRACKING_URI', 'http://there')
    set_trackers(cfg, ['mlflow'])
    assert cfg.visualizer.vis_backends[1].tracking_uri == 'http://there'
    assert 'artifact_location' not in cfg.visualizer.vis_backends[1]


def test_a_tracker_that_is_not_installed_is_one_line(refused, config, monkeypatch):
    monkeypatch.setattr(trackers, 'find_spec', lambda name: None)
    assert '--tracker wandb needs a package that is not installed; pip install wandb' in refused(
        'train', config, '--tracker', 'wandb')


def train(process, config, tracker, **environment):
    done = process('-W', 'ignore', '-m', 'mm_graft', 'train', config, '--tracker', tracker, '--work-dir', 'run',
                   '--cfg-options', 'train_cfg.max_epochs=1', 'param_scheduler.warmup=0',
                   'default_hooks.logger.interval=1', **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def logged(folder):
    lines = [json.loads(line) for line in next(folder.glob('run/*/vis_data/scalars.json')).read_text().splitlines()]
    return [line['loss'] for line in lines if 'loss' in line]


def test_tensorboard_has_the_losses_of_the_log(process, config, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    train(process, config, 'tensorboard')
    events = EventAccumulator(str(next(tmp_path.glob('run/*/vis_data/events*')).parent))
    events.Reload()
    assert [event.value for event in events.Scalars('loss')] == pytest.approx(logged(tmp_path))


@installed('mlflow')
def test_mlflow_has_the_losses_of_the_log(process, config, tmp_path):
    from mlflow.tracking import MlflowClient
    train(process, config, 'mlflow')
    client = MlflowClient(f'sqlite:///{tmp_path}/run/mlflow.db')
    run, = client.search_runs([client.get_experiment_by_name('mm_graft').experiment_id])
    history = client.get_metric_history(run.info.run_id, 'loss')
    assert [metric.value for metric in sorted(history, key=lambda metric: metric.step)] == pytest.approx(
        logged(tmp_path))
    assert run.info.run_name == 'run'
    assert run.data.params['train_cfg.max_epochs'] == '1'
    assert list((tmp_path / 'run' / 'mlflow').rglob('config.py'))


@installed('wandb')
def test_wandb_keeps_an_offline_run(process, config, tmp_path):
    train(process, config, 'wandb', WANDB_MODE='offline')
    assert list(tmp_path.glob('run/*/vis_data/wandb/offline-run-*/*.wandb'))
