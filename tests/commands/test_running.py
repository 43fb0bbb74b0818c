import os

import pytest
from mmengine.config import Config

from mm_graft.commands.running import (
    TRACEBACK,
    StartedHook,
    check_folders,
    check_paths,
    clean_errors,
    load_config,
    slurm_to_torch,
)


@pytest.fixture(autouse=True)
def _no_traceback_wanted(monkeypatch):
    monkeypatch.delenv(TRACEBACK, raising=False)


@pytest.mark.parametrize('error', [ValueError, TypeError, KeyError, AttributeError, AssertionError, FileNotFoundError])
def test_an_error_of_the_inputs_is_one_line_and_a_failure(capsys, error):
    with pytest.raises(SystemExit) as exit_, clean_errors():
        raise error('depth 14 is\n too deep;   choose 1-12')
    assert exit_.value.code == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == 'error: depth 14 is too deep; choose 1-12'
    assert TRACEBACK in second


def test_an_error_without_a_message_is_called_by_its_name(capsys):
    with pytest.raises(SystemExit), clean_errors():
        raise AssertionError
    assert capsys.readouterr().err.startswith('error: AssertionError\n')


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), clean_errors():
        1 / 0


def test_an_error_after_the_first_epoch_began_keeps_its_traceback():
    started = StartedHook()
    with pytest.raises(SystemExit), clean_errors(started):
        raise ValueError
    started.before_train_epoch(runner=None)
    with pytest.raises(ValueError, match='later'), clean_errors(started):
        raise ValueError('later')


def test_the_environment_can_ask_for_the_traceback(monkeypatch):
    monkeypatch.setenv(TRACEBACK, '1')
    with pytest.raises(ValueError, match='here'), clean_errors():
        raise ValueError('here')


def test_options_override_the_file(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('optim_wrapper = dict(lr=1)\ncustom_hooks = [dict(interval=1)]\n')
    assert load_config(str(path)).optim_wrapper.lr == 1
    cfg = load_config(str(path), {'optim_wrapper.lr': 2, 'custom_hooks.0.interval': 5})
    assert (cfg.optim_wrapper.lr, cfg.custom_hooks[0].interval) == (2, 5)


def test_a_config_that_does_not_exist_is_named():
    with pytest.raises(FileNotFoundError, match=r'config nowhere\.py does not exist'):
        load_config('nowhere.py')


MISSING = {
    'data': (dict(train_dataloader=dict(dataset=dict(data_root='no/where'))), 'train_dataloader.dataset.data_root'),
    'wrapped data': (dict(train_dataloader=dict(dataset=dict(dataset=dict(data_root='no/where')))),
                     'train_dataloader.dataset.dataset.data_root'),
    'data to validate on': (dict(val_dataloader=dict(dataset=dict(data_root='no/where'))),
                            'val_dataloader.dataset.data_root'),
    'one of several data sets': (dict(train_dataloader=dict(dataset=dict(datasets=[dict(data_root='no/where')]))),
                                 'train_dataloader.dataset.datasets.0.data_root'),
    'MIM checkpoint': (dict(model=dict(mim_checkpoint='no/where')), 'model.mim_checkpoint'),
    'start': (dict(load_from='no/where'), 'load_from'),
    'anchor': (dict(custom_hooks=[dict(type='A'), dict(type='mm_graft.WeightAnchor', checkpoint='no/where')]),
               'custom_hooks.1.checkpoint'),
}


@pytest.mark.parametrize(('cfg', 'key'), MISSING.values(), ids=MISSING)
def test_a_missing_path_is_named_with_its_key_and_the_option_to_set(cfg, key):
    with pytest.raises(FileNotFoundError, match=rf'no/where \({key}\) does not exist.*--cfg-options {key}=') as error:
        check_paths(Config(cfg))
    assert '\n' not in str(error.value)


def test_paths_that_exist_urls_and_absent_ones_pass(tmp_path):
    file = tmp_path / 'file.pth'
    file.touch()
    check_paths(Config(dict(
        train_dataloader=dict(dataset=dict(data_root=str(tmp_path))), model=dict(mim_checkpoint=str(file)),
        load_from=None, test_dataloader=dict(dataset=dict(data_root='only read when testing')),
        custom_hooks=[dict(checkpoint='https://host/file.pth')],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook')))))


def test_only_the_folders_of_the_loaders_that_are_used_must_exist(tmp_path):
    cfg = Config(dict(train_dataloader=dict(dataset=dict(data_root='no/where')),
                      test_dataloader=dict(dataset=dict(data_root=str(tmp_path)))))
    check_folders(cfg, 'test_dataloader', 'val_dataloader')
    with pytest.raises(FileNotFoundError, match=r'train_dataloader\.dataset\.data_root'):
        check_folders(cfg, 'train_dataloader', 'test_dataloader')


def test_a_file_that_is_no_config_is_named(tmp_path):
    (tmp_path / 'program.py').write_text('import os\nparser = object.new(os.path.x.y)\n')
    with pytest.raises(ValueError, match=r'config .*program\.py cannot be read'):
        load_config(str(tmp_path / 'program.py'))
    (tmp_path / 'other.py').write_text('import os\nhere = os.getcwd()\n')
    with pytest.raises(ValueError, match=r'other\.py has nothing that a run reads.*is it a config'):
        load_config(str(tmp_path / 'other.py'))


def test_a_slurm_step_is_told_to_torch(monkeypatch, tmp_path):
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\necho node7\necho node8\n')
    scontrol.chmod(0o755)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT'):
        monkeypatch.setenv(name, 'x')
        monkeypatch.delenv(name)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    for name, value in {'PROCID': '5', 'NTASKS': '8', 'LOCALID': '1', 'NODELIST': 'node[7-8]'}.items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    slurm_to_torch()
    assert [os.environ[name] for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')] == [
        '5', '8', '1', 'node7', '29500']


def test_a_slurm_launch_without_slurm_is_named(monkeypatch):
    monkeypatch.delenv('SLURM_PROCID', raising=False)
    with pytest.raises(KeyError, match='srun'):
        slurm_to_torch()
