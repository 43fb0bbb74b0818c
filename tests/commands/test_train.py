import socket
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mm_graft.commands import train
from mm_graft.commands.main import build_parser
from tests.tiny import mae_file

ROOT = Path(__file__).parents[2]


def option(text):
    return '--cfg-options', text


REFUSED = {
    'data folder': (option('train_dataloader.dataset.data_root=no/where'),
                    ('data folder no/where (train_dataloader.dataset.data_root) does not exist', '--cfg-options')),
    'checkpoint': (option('default_hooks.init.checkpoint=no/where.pth'),
                   ('checkpoint no/where.pth (default_hooks.init.checkpoint) does not exist', '--cfg-options')),
    'foreign checkpoint': (('--init', 'resnet.pth'), ('resnet.pth', 'no known layout', 'known are')),
    'other width': (('--init', 'wide.pth'), ('wide.pth', 'another shape', 'use the same width')),
    'stages': (option('optim_wrapper.paramwise_cfg.stage_lr_mult=[0.1,0.1,1.0]'),
               ('3 stages do not divide 4 blocks evenly; choose one of [1, 2, 4]', )),
    'optimizer': (option('optim_wrapper.optimizer.type=AdamWW'), ('there is no optimizer `AdamWW`', 'did you mean')),
    'data to validate on': (option('val_dataloader.dataset.data_root=no/where'),
                            ('data folder no/where (val_dataloader.dataset.data_root) does not exist', )),
    'name of no use': (option('idle=2'), ('idle=2 would change nothing', )),
    'number for a list': (option('view=1'), ('view=1: expected a list', )),
    'misspelt key': (option('train_cfgg.max_epochs=1'), ("no `train_cfgg` in this config; did you mean 'train_cfg'", )),
    'large batch': (option('train_dataloader.batch_size=256'),
                    ('8 images are fewer than one batch of 256', '--cfg-options train_dataloader.batch_size=8')),
    'type': (option('model.type=mm_graft.GraftedMoCoV4'), ('model.type: there is no model', '.GraftedMoCoV3')),
    'option': (option('model.backbone.img_siz=1'), ('model.backbone.img_siz: ', "did you mean 'img_size'")),
    'swallowed option': (option('default_hooks.checkpoint.intervall=1'), ('checkpoint.intervall: ', "mean 'interval'")),
    'option of what is built late': (option('param_scheduler.warmpu=1'), ('param_scheduler.warmpu: ', "'warmup'")),
    'option of a loader': (option('train_dataloader.num_worker=1'), ('train_dataloader.num_worker: ', 'num_workers')),
    'hook': (option('default_hooks.timer.type=IterTimer'), ('default_hooks.timer.type: ', 'IterTimerHook')),
    'argument': (option('model.momentum=1.5'), ('EMA momentum 1.5', '[0, 1]')),
    'warm-up': (option('param_scheduler.warmup=9'), ('warmup=', 'shorten it or train longer')),
    'batch size': (('--auto-scale-lr', ), ('does not say for which batch size', 'auto_scale_lr=dict(base_batch_size=')),
    'resume': (('--resume', 'no/where.pth'), ('checkpoint no/where.pth (load_from) does not exist', )),
}


@pytest.mark.parametrize(('arguments', 'parts'), REFUSED.values(), ids=REFUSED)
def test_training_refuses_wrong_inputs_in_one_line_before_it_starts(refused, config, tmp_path, arguments, parts):
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'resnet.pth')
    mae_file(tmp_path / 'wide.pth', width=32)
    line = refused('train', config, *arguments)
    assert [part for part in parts if part not in line] == [], line
    assert not list(tmp_path.glob('work_dirs/*/*.pth'))


@pytest.mark.parametrize(('words', 'expected'), [
    ([], 'given.pth'), (['--init', 'other.pth'], 'other.pth'), (['--init', 'none'], None)])
def test_initial_weights_have_a_short_flag_that_keeps_the_rest_of_the_config(tmp_path, words, expected):
    for name in ('given.pth', 'other.pth'):
        (tmp_path / name).touch()
    path = tmp_path / 'run.py'
    path.write_text(f"""
model = dict(type='A')
default_hooks = dict(init=dict(type='mm_graft.LoadBackboneHook', checkpoint='{tmp_path}/given.pth', branch='momentum'))
""")
    words = [str(tmp_path / word) if word.endswith('.pth') else word for word in words]
    init = checked(path, *words)[0].default_hooks.init
    assert init.checkpoint == (expected and str(tmp_path / expected))
    assert (init.type, init.branch) == ('mm_graft.LoadBackboneHook', 'momentum')
    (tmp_path / 'plain.py').write_text("model = dict(type='A')")
    if words:
        assert checked(tmp_path / 'plain.py', *words)[0].default_hooks.init.checkpoint == init.checkpoint


def checked(*words):
    args = build_parser('train').parse_args(list(map(str, words)))
    return train.check(args)


@pytest.fixture
def large(config):
    """A config that states the batch that its learning rate is for."""
    with config.open('a') as file:
        file.write('batch_size = 64\nauto_scale_lr = dict(base_batch_size=batch_size)\n'
                   'optim_wrapper["accumulative_counts"] = 2\n')
    return config


def test_a_batch_that_is_asked_for_is_shared_by_processes_and_iterations(large, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    cfg, notes = checked(large, '--launcher', 'pytorch', '--cfg-options', 'batch_size=32')
    assert (cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size) == (4, 32)
    assert 'train_dataloader.batch_size = 4 (batch_size / 8)' in notes
    words = 'batch_size=32', 'train_dataloader.batch_size=3'
    assert checked(large, '--launcher', 'pytorch', '--cfg-options', *words)[0].train_dataloader.batch_size == 3
    assert checked(large, '--launcher', 'pytorch')[0].train_dataloader.batch_size == 2


def test_a_config_that_gives_its_batch_to_the_loader_shares_it_too(config, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    with config.open('a') as file:
        file.write('batch_size = 64\ntrain_dataloader["batch_size"] = batch_size\n')
    words = '--launcher', 'pytorch', '--cfg-options', 'batch_size=32'
    assert checked(config, *words)[0].train_dataloader.batch_size == 32  # says nothing of processes
    with config.open('a') as file:
        file.write('auto_scale_lr = dict(base_batch_size=batch_size)\n')
    assert checked(config, *words)[0].train_dataloader.batch_size == 8


def test_the_learning_rate_is_scaled_by_the_images_of_a_step(large):
    cfg, _ = checked(large, '--auto-scale-lr')
    assert (cfg.auto_scale_lr.enable, cfg.auto_scale_lr.base_batch_size) == (True, 32)


def test_the_flags_reach_the_config(config):
    cfg, _ = checked(config, '--work-dir', 'w', '--resume', config, '--amp', '--no-validate', '--launcher', 'slurm')
    assert (cfg.work_dir, cfg.resume, cfg.load_from, cfg.launcher) == ('w', True, str(config), 'slurm')
    assert cfg.optim_wrapper.type == 'mm_graft.AutocastOptimWrapper'
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    cfg, _ = checked(config, '--resume')
    assert (cfg.work_dir, cfg.resume, cfg.load_from) == ('work_dirs/config', True, None)


@pytest.mark.parametrize('name', ['mmengine.config.Config.dump', 'mmengine.hooks.LoggerHook.after_train_iter'])
def test_a_disk_that_is_full_is_one_line_before_and_after_the_first_iteration(
        refused, config, tmp_path, monkeypatch, name):
    def full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(name, full)
    monkeypatch.setattr('mm_graft.engine.reliability.preemption_hook.PreemptionHook.before_train',
                        Hook.before_train)  # its handlers would outlive a run that fails
    line = refused('train', config, '--work-dir', tmp_path / 'run')
    assert line == f'error: {tmp_path}/run cannot be written: No space left on device; make room there, or name ' \
                   'another folder'


def test_amp_takes_the_place_of_a_scaler_and_of_its_options(config):
    with config.open('a') as file:
        file.write('optim_wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic", dtype="float16")\n')
    wrapper = checked(config)[0].optim_wrapper
    assert checked(config, '--amp')[0].optim_wrapper == dict(
        type='mm_graft.AutocastOptimWrapper', **{name: value for name, value in wrapper.items()
                                                 if name not in ('type', 'loss_scale', 'dtype')})


@pytest.mark.parametrize(('text', 'message'), [('a = (', 'was never closed'), ('a = b', "name 'b' is not defined"),
                                               ("_base_ = 'no.py'", 'no.py')])
def test_a_config_that_cannot_be_read_is_one_line(refused, tmp_path, text, message):
    (tmp_path / 'config.py').write_text(text)
    assert message in refused('train', tmp_path / 'config.py')


def test_a_warning_says_that_the_rate_is_for_another_batch(config, tmp_path, process):
    with config.open('a') as file:
        file.write('auto_scale_lr = dict(base_batch_size=4096)\n')
    done = process('-m', 'mm_graft', 'train', config, '--work-dir', tmp_path / 'run')
    assert done.returncode == 0, done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if 'meant for batches of 4096 images' in line]
    assert len(lines) == 1
    assert '--auto-scale-lr' in lines[0]


FROZEN = '[0.0,1.0]'


@pytest.mark.parametrize('stages', ['[0.1,1.0]', FROZEN])
def test_two_processes_train_together_with_slow_or_frozen_stages(config, tmp_path, stages, process):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    done = process('-m', 'torch.distributed.run', '--nproc-per-node=2', f'--master-port={port}',
                   ROOT / 'tools' / 'train.py', config, '--launcher', 'pytorch', '--work-dir', tmp_path / 'run',
                   '--cfg-options', f'optim_wrapper.paramwise_cfg.stage_lr_mult={stages}',
                   f'find_unused_parameters={stages == FROZEN}', CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stdout + done.stderr
    saved = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    assert saved['meta']['iter'] == 4  # 8 images, 2 processes of 2 images each, 2 epochs
    assert (done.stdout + done.stderr).count('Saving checkpoint at 2 epochs') == 1  # one process speaks
    start = torch.load(tmp_path / 'mae.pth', weights_only=True)['model']
    kept = torch.equal(saved['state_dict']['backbone.layers.0.ln1.weight'], start['blocks.0.norm1.weight'])
    assert kept == (stages == FROZEN)
