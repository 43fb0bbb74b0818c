"""Runs that users make by mistake, and files that are not what they seem: each ends as it should or says why not."""

import io
import os
import re
import struct
import zipfile

import pytest
import torch

from mm_graft.commands.messages import TRACEBACK
from tests.faulty_runs import FREEZEOUT, LOCALMIM, MAE, NET, Commands, accuracy, pictures
from tests.tiny import grafted_mocov3, vit_state

LONGER = '--cfg-options', 'train_cfg.max_epochs=8'


@pytest.fixture
def commands(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(TRACEBACK, raising=False)
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.chdir(tmp_path)
    return Commands(tmp_path, capsys)


@pytest.fixture
def images(tmp_path):
    return pictures(tmp_path / 'own')


def group(path):
    return torch.load(path, weights_only=False)['optimizer']['param_groups'][0]


def save(path, content):
    torch.save(content, path)
    return path


def test_a_longer_run_has_its_own_rates_and_a_changed_rate_is_used(commands, images, tmp_path):
    config = commands.config(MAE, images)
    commands.train(config, 'run')
    said = commands.train(config, 'run', '--resume', *LONGER)
    assert 'resumed with changed train_cfg.max_epochs: 4 → 8' in said
    assert 1.5e-4 < group(tmp_path / 'run/epoch_6.pth')['lr'] < 2.5e-4
    said = commands.train(config, 'new', '--resume', tmp_path / 'run/epoch_6.pth', *LONGER,
                          'optim_wrapper.optimizer.lr=0.5')
    assert 'optim_wrapper.optimizer.lr: 0.001 → 0.5' in said
    assert group(tmp_path / 'new/epoch_8.pth')['initial_lr'] == 0.5
    graft = commands.config(grafted_mocov3(), images)
    assert 'changed model.type' in commands.stopped(graft, 'other', '--resume', tmp_path / 'run/epoch_6.pth')


def test_a_freezeout_run_is_prolonged_by_its_own_schedule(commands, images, tmp_path):
    settings = dict(paramwise=dict(by_depth=True), more=FREEZEOUT)
    config = commands.config(LOCALMIM, images, **settings)
    commands.train(config, 'run')
    assert 'there is nothing to do' in commands.train(config, 'run', '--resume')
    commands.train(config, 'run', '--resume', *LONGER)
    commands.train(commands.config(LOCALMIM, images, epochs=8, **settings), 'whole')
    left, right = (torch.load(tmp_path / run / 'epoch_8.pth', weights_only=False) for run in ('run', 'whole'))
    assert [group['lr'] for group in left['optimizer']['param_groups']] == [
        group['lr'] for group in right['optimizer']['param_groups']]


def evil(folder):
    """A checkpoint that reaches ``exec`` by what MMEngine puts on PyTorch's allow-list."""
    def text(word):
        return b'X' + struct.pack('<I', len(word)) + word.encode()

    def name(module, attribute):
        return f'c{module}\n{attribute}\n'.encode()

    def get(thing, key):
        return name('builtins', 'getattr') + thing + text(key) + b'\x86R'

    run = get(get(name('builtins', 'getattr'), '__self__'), 'exec')
    code = b'(' + text(f'open({str(folder / "ran")!r}, "w")') + b't'
    call = b'\x80\x02' + name('torch._tensor', '_rebuild_from_type_v2') + b'(' + run + b'N' + code + b'}tR.'
    plain = io.BytesIO()
    torch.save({}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(folder / 'evil.pth', 'w') as target:
        for entry in source.namelist():
            target.writestr(entry, call if entry.endswith('data.pkl') else source.read(entry))
    return folder / 'evil.pth'


ROUTES = {
    'resume': ['--resume', 'FILE'], 'init': ['--init', 'FILE'], 'load_from': ['--cfg-options', 'load_from=FILE'],
    'init_cfg': []}


def by_route(commands, route, images, file, more=''):
    """A config, and further words of the command line, by which a run comes to a file."""
    if route == 'init_cfg':
        more += f'model["backbone"]["init_cfg"] = dict(type="Pretrained", checkpoint="{file}")\n'
    return commands.config(NET, images, epochs=1, more=more), *(word.replace('FILE', str(file))
                                                               for word in ROUTES[route])


@pytest.mark.parametrize('route', ROUTES)
def test_no_run_runs_code_of_a_file_or_begins_with_nan_or_without_its_weights(commands, images, tmp_path, route):
    nan = save(tmp_path / 'nan.pth', {'model': {name: torch.full_like(value, float('nan')) for name, value in
                                                vit_state().items()}})
    foreign = save(tmp_path / 'foreign.pth', {'model': {f'vit.{name}': value for name, value in vit_state().items()
                                                        if 'blocks.2' not in name}})
    for file, said in ((evil(tmp_path), 'evil.pth would run code'), (nan, 'nan.pth'), (foreign, 'foreign.pth')):
        config, *words = by_route(commands, route, images, file)
        line = commands.stopped(config, 'run', *words)
        assert said in line
        assert file is not nan or route == 'resume' or 'NaN or infinite' in line
    assert not (tmp_path / 'ran').exists()
    assert not list(tmp_path.glob('run/*.pth'))


@pytest.mark.parametrize('route', ['init', 'load_from', 'init_cfg'])
def test_a_file_of_the_authors_fills_the_backbone_by_every_route(commands, images, tmp_path, route):
    file = save(tmp_path / 'mae.pth', {'model': vit_state()})
    config, *words = by_route(commands, route, images, file, 'optim_wrapper["optimizer"]["lr"] = 1e-9\n')
    commands.train(config, 'run', *words)
    state = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']
    torch.testing.assert_close(state['backbone.cls_token'], vit_state()['cls_token'], rtol=0, atol=1e-6)


def test_a_used_folder_keeps_the_run_that_it_has(commands, images, tmp_path):
    commands.train(commands.config(MAE, images, epochs=2), 'used')
    before = (tmp_path / 'used/epoch_2.pth').read_bytes()
    other = commands.config(MAE, images, epochs=2, lr=0.02)
    assert 'has the checkpoints of a run' in commands.stopped(other, 'used')
    line = commands.stopped(other, 'used', '--resume')
    assert 'end of a finished run' in line
    assert 'optim_wrapper.optimizer.lr: 0.001 → 0.02' in line
    assert (tmp_path / 'used/epoch_2.pth').read_bytes() == before


def test_a_pipe_in_the_folder_is_not_waited_for(commands, images, tmp_path):
    (tmp_path / 'run').mkdir()
    os.mkfifo(tmp_path / 'run/x.pth')
    config = commands.config(MAE, images, epochs=1)
    for words in (['--resume'], ['--init', tmp_path / 'run/x.pth'], ['--resume', tmp_path / 'run/x.pth']):
        assert 'x.pth' in commands.stopped(config, 'run', *words)


def test_settings_that_match_nothing_are_refused(commands, images):
    for keys, said in (({'backbone.blocks.0': dict(lr_mult=0.0)}, 'backbone.blocks.0'),
                       ({'neck': dict(lr_mul=10.0)}, 'lr_mul')):
        config = commands.config(MAE, images, epochs=1, paramwise=dict(stage_lr_mult=[1.0], custom_keys=keys))
        assert said in commands.stopped(config, 'run')


def test_another_grid_is_refused_with_a_remedy_that_can_be_followed(commands, images, tmp_path):
    save(tmp_path / 'mae.pth', {'model': vit_state()})
    graft = grafted_mocov3(img_size=48)
    view = "dict(type='MultiView', num_views=[2], transforms=[[dict(type='RandomResizedCrop', scale=48)]])"
    config = commands.config(graft, images, epochs=1, more=f'train_dataloader["dataset"]["pipeline"][1] = {view}\n')
    line = commands.stopped(config, 'run', '--init', tmp_path / 'mae.pth')
    assert 'default_hooks.init.resize=True' in line
    commands.train(config, 'run', '--init', tmp_path / 'mae.pth', '--cfg-options', 'default_hooks.init.resize=True')
    shape = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']['backbone.pos_embed'].shape
    assert shape == (1, 37, 16)


def test_the_heads_that_a_file_states_are_those_of_the_model(commands, images, tmp_path):
    state = {f'module.base_encoder.{name}': value for name, value in vit_state(384, 12, 16, 197, 1536).items()}
    save(tmp_path / 'moco.pth.tar', {'arch': 'vit_small', 'state_dict': state})
    backbone = dict(type='mm_graft.GraftViT', arch='deit-small', img_size=224, patch_size=16)
    config = commands.config(NET | dict(backbone=backbone), images, epochs=1)
    assert 'heads 12' in commands.stopped(config, 'run', '--init', tmp_path / 'moco.pth.tar')


def test_half_the_batch_accumulated_twice_is_the_same_batch(commands, images, tmp_path):
    half = "train_dataloader['batch_size'] = 6\noptim_wrapper['accumulative_counts'] = 2\n"
    commands.train(commands.config(MAE, images, epochs=2, more=half), 'run', '--auto-scale-lr')
    assert group(tmp_path / 'run/epoch_2.pth')['initial_lr'] == 1e-3
    text = commands.train(commands.config(MAE, images, epochs=2, more=half), 'plain')
    assert 'meant for batches' not in text


def test_the_log_has_the_rate_of_its_own_iteration(commands, images):
    text = commands.train(commands.config(MAE, images, epochs=2,
                                          more="custom_hooks = [dict(type='mm_graft.StageLRLoggerHook')]\n"), 'run')
    rates = re.findall(r'^20.* lr: (\S+) stage1_lr: (\S+)', text, re.MULTILINE)
    assert len(rates) == 6
    assert all(rate == stage for rate, stage in rates)
    assert rates[2] == ('6.6667e-04', '6.6667e-04')  # warmed up for two of three iterations


def test_accuracy_counts_names(commands, images, tmp_path):
    val = pictures(tmp_path / 'val', 'ac', n=6)
    config = commands.config(NET, images, val, epochs=10, lr=4e-3)
    line = commands.stopped(config, 'short')
    assert 'only in train_dataloader.dataset: b' in line
    remedy = line.split('--cfg-options ')[1].split()[0]
    assert accuracy(commands.train(config, 'short', '--cfg-options', remedy)) == 100
