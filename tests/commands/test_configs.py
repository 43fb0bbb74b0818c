import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from mm_graft.commands import configs
from mm_graft.commands.configs import (
    check_folders,
    check_paths,
    config_for,
    content_root,
    find_config,
    load_config,
    run_name,
)
from mm_graft.commands.run_guards import guard_config
from tests.tiny import mae_file, recorded_checkpoint

ROOT = Path(__file__).parents[2]
GRAFT = 'graft/vit-b_mae2mocov3'


@pytest.mark.parametrize('name', [GRAFT, f'{GRAFT}.py', f'configs/{GRAFT}', f'configs/{GRAFT}.py'])
def test_a_config_of_ours_is_found_by_its_name_from_any_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == ROOT / 'configs' / f'{GRAFT}.py'


@pytest.mark.parametrize('name', [GRAFT, f'{GRAFT}.py'])
def test_a_file_of_the_current_folder_comes_first(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path(f'{GRAFT}.py').parent.mkdir()
    Path(f'{GRAFT}.py').touch()
    assert find_config(name) == Path(f'{GRAFT}.py')


def test_a_name_that_leads_nowhere_is_an_error_with_those_that_are_called_alike():
    with pytest.raises(FileNotFoundError, match="did you mean 'graft/vit-b_mae2mocov3', "):
        find_config('configs/graft/vitb_mae2mocov3.py')
    with pytest.raises(FileNotFoundError, match=f'the configs of mm_graft are in {ROOT}/configs'):
        find_config('no/where.py')


@pytest.mark.parametrize('place', ['', 'mm_graft/.mim'])
def test_configs_and_benchmarks_are_found_beside_the_package_or_in_it(tmp_path, monkeypatch, place):
    for name in configs.CONTENT:
        (tmp_path / place / name).mkdir(parents=True)
    monkeypatch.setattr(configs, '__file__', str(tmp_path / 'mm_graft' / 'commands' / 'configs.py'))
    assert content_root() == tmp_path / place
    shutil.rmtree(tmp_path / place / 'benchmarks')
    with pytest.raises(FileNotFoundError, match='install mm_graft again'):
        content_root()


def test_options_override_the_file(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('optim_wrapper = dict(lr=1)\ncustom_hooks = [dict(interval=1)]\n')
    assert load_config(str(path)).optim_wrapper.lr == 1
    cfg = load_config(str(path), {'optim_wrapper.lr': 2, 'custom_hooks.0.interval': 5})
    assert (cfg.optim_wrapper.lr, cfg.custom_hooks[0].interval) == (2, 5)


@pytest.mark.parametrize('ending', ['yaml', 'yml'])
def test_a_config_is_no_yaml_which_would_call_functions(tmp_path, ending):
    path = tmp_path / f'a.{ending}'
    path.write_text(f'model: !!python/object/apply:os.mkdir [{tmp_path}/ran]')
    with pytest.raises(ValueError, match=rf'a\.{ending} is YAML.*write it as \.py or \.json'):
        load_config(str(path))
    assert not (tmp_path / 'ran').exists()


def test_a_config_that_does_not_exist_is_named():
    with pytest.raises(FileNotFoundError, match=r'config nowhere\.py does not exist'):
        load_config('nowhere.py')


def test_the_file_says_how_it_was_made_and_a_config_that_is_given_wins(tmp_path):
    checkpoint = recorded_checkpoint(tmp_path / 'a.pth', work_dir='work_dirs/run_1')
    cfg = config_for(checkpoint)
    assert (cfg.model.type, cfg.model.backbone.img_size) == ('mm_graft.GraftedMoCoV3', 32)
    assert run_name(cfg, checkpoint) == 'run_1'
    (tmp_path / 'given.py').write_text('model = dict(backbone=dict(img_size=64))\n')
    given = config_for(checkpoint, str(tmp_path / 'given.py'))
    assert given.model.to_dict() == dict(backbone=dict(img_size=64))
    assert run_name(given, checkpoint) == 'given'
    foreign = mae_file(tmp_path / 'mae.pth')
    assert config_for(foreign).model.backbone.img_size == 32
    assert run_name(config_for(foreign), foreign) == 'mae'
    with pytest.raises(FileNotFoundError, match='nowhere'):
        config_for('nowhere.pth')


def test_options_override_what_the_file_says_but_it_has_no_variables(tmp_path):
    checkpoint = recorded_checkpoint(tmp_path / 'a.pth', base_lr=0.1)
    assert config_for(checkpoint, None, {'model.momentum': 0.5}).model.momentum == 0.5
    with pytest.raises(ValueError, match=r'base_lr: a checkpoint records no variables'):
        config_for(checkpoint, None, {'base_lr': 0.2})
    with pytest.raises(ValueError, match='there is no `modle`'):
        config_for(checkpoint, None, {'modle.momentum': 0.5})


MISSING = {
    'data': (dict(train_dataloader=dict(dataset=dict(data_root='no/where'))), 'train_dataloader.dataset.data_root'),
    'wrapped data': (dict(train_dataloader=dict(dataset=dict(dataset=dict(data_root='no/where')))),
                     'train_dataloader.dataset.dataset.data_root'),
    'data to validate on': (dict(val_dataloader=dict(dataset=dict(data_root='no/where'))),
                            'val_dataloader.dataset.data_root'),
    'one of several data sets': (dict(train_dataloader=dict(dataset=dict(datasets=[dict(data_root='no/where')]))),
                                 'train_dataloader.dataset.datasets.0.data_root'),
    'initial weights': (dict(default_hooks=dict(init=dict(checkpoint='no/where'))), 'default_hooks.init.checkpoint'),
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
        train_dataloader=dict(dataset=dict(data_root=str(tmp_path))),
        load_from=None, test_dataloader=dict(dataset=dict(data_root='only read when testing')),
        custom_hooks=[dict(checkpoint='https://host/file.pth')],
        default_hooks=dict(checkpoint=dict(type='CheckpointHook'), init=dict(checkpoint=str(file))))))


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


def test_a_checkpoint_is_no_config(tmp_path):
    path = mae_file(tmp_path / 'epoch_1.pth')
    with pytest.raises(ValueError, match=r'epoch_1\.pth does not end in \.py or \.json.* beside its checkpoints'):
        configs.find_config(str(path))


NEW_STYLE = """
from mmengine.hooks import CheckpointHook
from mmengine.runner import IterBasedTrainLoop
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import CenterCrop, CustomDataset, LoadImageFromFile
from mm_graft.models.backbones.graft_vit import GraftViT
class Own: pass
model = dict(backbone=dict(type=GraftViT, neck=[dict(type=Own)]))
train_cfg = dict(type=IterBasedTrainLoop, max_iters=3)
default_hooks = dict(checkpoint=dict(type=CheckpointHook, interval=1))
train_dataloader = dict(sampler=dict(type=DefaultSampler), dataset=dict(
    type=CustomDataset, pipeline=[dict(type=LoadImageFromFile), dict(type=CenterCrop, crop_size=8)]))
"""


def test_classes_in_a_config_of_the_new_style_get_their_names(tmp_path):
    (tmp_path / 'new.py').write_text(NEW_STYLE)
    cfg = load_config(str(tmp_path / 'new.py'), {'train_cfg.max_iters': 5})
    load, crop = cfg.train_dataloader.dataset.pipeline
    assert (cfg.model.backbone.type, cfg.train_cfg.type) == ('mm_graft.GraftViT', 'IterBasedTrainLoop')
    assert (cfg.train_dataloader.dataset.type, load.type) == ('mmpretrain.CustomDataset', 'mmengine.LoadImageFromFile')
    assert (cfg.train_dataloader.sampler.type, crop.type) == ('DefaultSampler', 'mmengine.CenterCrop')
    guard_config(cfg)
    assert cfg.default_hooks.checkpoint.type == 'mm_graft.SafeCheckpointHook'
    assert cfg.train_cfg.max_iters == 5
