import argparse
import contextlib
import gc
import io
import pickle
import runpy
import sys
from unittest.mock import Mock

import mmengine
import numpy as np
import pytest
import timm
import torch
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint_with_prefix
from mmengine.utils.dl_utils import load_url

import mm_graft.registry  # noqa: F401
from mm_graft.checkpoints import CheckpointError, load_backbone
from mm_graft.host.safe_opening import READERS, SAFE_PICKLE, load, safe_opening
from tests.hostile_files import extension_registered, write_hostile_files
from tests.tiny import VIT, Noise, classifier, mae_file

PICKLES = 'mmengine.fileio.handlers.pickle_handler'
VIT_CFG = dict(type='VisionTransformer', **VIT)


@pytest.fixture
def hostile(tmp_path):
    (tmp_path / 'hostile').mkdir()
    with extension_registered():
        yield write_hostile_files(tmp_path / 'hostile', tmp_path / 'ran'), tmp_path / 'ran'


class Net(BaseModel):

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode='loss', **kwargs):
        return {'loss': self.weight.sum()}


def runner(tmp_path, **kwargs):
    return Runner(
        model=Net(), work_dir=str(tmp_path), train_dataloader=dict(
            batch_size=1, dataset=Noise(), sampler=dict(type='DefaultSampler'), num_workers=0),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), train_cfg=dict(by_epoch=True, max_epochs=1),
        experiment_name=f'{tmp_path.name}{torch.randint(10**9, ()).item()}', default_hooks=dict(logger=None),
        log_level='ERROR', **kwargs)


def pretrained(path, cfg=None, **init):
    model = MODELS.build(cfg or VIT_CFG | dict(init_cfg=dict(type='Pretrained', checkpoint=str(path), **init)))
    model.init_weights()


def inside(path):
    cfg = classifier()
    cfg['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=str(path))
    pretrained(path, cfg)


def start_hook(path):
    hook = HOOKS.build(dict(type='mm_graft.LoadBackboneHook', checkpoint=str(path)))
    hook.before_train(Mock(model=MODELS.build(classifier()), iter=0, _resume=False))


ROUTES = {
    'torch.load': lambda path: torch.load(path, weights_only=False),
    'open file': lambda path: torch.load(io.BytesIO(path.read_bytes()), map_location='cpu', weights_only=False),
    'load_checkpoint': lambda path: load_checkpoint(Net(), str(path)),
    'loader': lambda path: CheckpointLoader.load_checkpoint(str(path)),
    'with prefix': lambda path: _load_checkpoint_with_prefix('a', str(path)),
    'url': lambda path: load_url(path.as_uri(), model_dir=str(path.parent / 'downloads')),
    'init_cfg': pretrained,
    'init_cfg with prefix': lambda path: pretrained(path, prefix='backbone.'),
    'init_cfg inside': inside,
    'init_cfg of ConMIM': lambda path: pretrained(path, dict(
        type='mm_graft.ConMIMViT', **VIT, init_cfg=dict(type='Pretrained', checkpoint=str(path)))),
    'LoadBackboneHook': start_hook,
    'timm': lambda path: timm.create_model('vit_tiny_patch16_224', depth=1, checkpoint_path=str(path)),
    'timm in mmpretrain': lambda path: MODELS.build(dict(
        type='TIMMBackbone', model_name='vit_tiny_patch16_224', depth=1, checkpoint_path=str(path))),
    'annotations': lambda path: mmengine.load(path, file_format='pkl'),
    'load_backbone': lambda path: load_backbone(torch.nn.Linear(1, 1), path),
}


@pytest.mark.parametrize('route', ROUTES)
def test_no_file_runs_code_by_any_route(hostile, route):
    files, ran = hostile
    with safe_opening():
        for what, path in files.items():
            opened = False
            with contextlib.suppress(Exception):
                ROUTES[route](path)
                opened = True
            assert not ran.exists(), what
            assert not opened or what == 'setstate' or route == 'annotations', what


@pytest.mark.parametrize('keys', [dict(load_from=True), dict(load_from=True, resume=True)], ids=['load_from', 'resume'])
def test_no_file_runs_code_in_a_run(hostile, tmp_path, keys):
    files, ran = hostile
    for what in ('global', 'getattr', 'rebuild from type', 'before 1.6', 'logged values'):
        with safe_opening(), pytest.raises(CheckpointError, match='would run code'):
            runner(tmp_path / 'run', **keys | dict(load_from=str(files[what]))).train()
    assert not ran.exists()


def test_the_config_text_in_a_file_is_not_executed(tmp_path):
    made = runner(tmp_path / 'one')
    made.train()
    content = torch.load(tmp_path / 'one' / 'epoch_1.pth', weights_only=False)
    content['meta']['config'] = f'import os\nos.mkdir({str(tmp_path / "ran")!r})\n'
    torch.save(content, tmp_path / 'evil.pth')
    with safe_opening():
        resumed = runner(tmp_path / 'two', resume=True, load_from=str(tmp_path / 'evil.pth'))
        resumed.train()
    assert resumed.iter == 16
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(('tool', 'args'), [
    ('train', ['--resume', 'FILE']), ('train', ['--cfg-options', 'load_from=FILE']),
    ('train', ['--cfg-options', 'model.init_cfg.checkpoint=FILE']), ('test', ['FILE'])])
def test_no_file_runs_code_in_a_command(hostile, tmp_path, monkeypatch, capsys, tool, args):
    files, ran = hostile
    config = tmp_path / 'config.py'
    dataset = dict(type='CIFAR10', data_root=str(tmp_path), split='train', pipeline=[])
    loader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler'), dataset=dataset)
    keys = dict(model=classifier() | dict(init_cfg=dict(type='Pretrained', checkpoint='')), default_scope='mmpretrain',
                train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=1),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                test_dataloader=loader, test_cfg=dict(), test_evaluator=dict(type='Accuracy'))
    config.write_text('\n'.join(f'{key} = {value!r}' for key, value in keys.items()))
    path = str(files['getattr'])
    monkeypatch.setattr(sys, 'argv', [tool, str(config), *(arg.replace('FILE', path) for arg in args)])
    monkeypatch.setattr('mm_graft.commands.running.build_runner', lambda cfg: Opens(cfg), raising=False)
    with contextlib.suppress(SystemExit):
        runpy.run_path(f'tools/{tool}.py', run_name='__main__')
    assert not ran.exists()
    assert 'would run code' in capsys.readouterr().err


class Opens:
    """A runner that only opens its files, as the host does."""

    def __init__(self, cfg):
        init = cfg.model.get('init_cfg') or {}
        CheckpointLoader.load_checkpoint(cfg.get('load_from') or init.checkpoint)


def test_what_was_replaced_comes_back_when_the_last_block_ends_also_if_another_began_first():
    gc.collect()  # a run that failed earlier ends its block here
    original, first, second = torch.load, safe_opening(), safe_opening()
    for block in (first, second):
        block.__enter__()
    for block, after in ((first, load), (second, original)):
        block.__exit__(None, None, None)
        assert torch.load is after
    assert original is not load


def test_what_was_replaced_comes_back_also_after_an_error():
    gc.collect()
    before = torch.load, sys.modules[PICKLES].pickle, list(sys.meta_path)
    with contextlib.suppress(ValueError), safe_opening(), safe_opening():
        assert torch.load is load
        raise ValueError
    assert (torch.load, sys.modules[PICKLES].pickle, list(sys.meta_path)) == before
    assert before[0] is not load


def test_readers_of_pickles_that_are_imported_later_are_safe_too(tmp_path, monkeypatch):
    package = tmp_path / 'late_reader.py'
    package.write_text('import pickle\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(READERS, 'late_reader', SAFE_PICKLE)
    with safe_opening():
        import late_reader
        with pytest.raises(CheckpointError):
            late_reader.pickle.loads(b'\x80\x02cos\ngetcwd\n)R.')
        assert late_reader.pickle.loads(pickle.dumps([np.arange(2)]))[0].tolist() == [0, 1]
    assert late_reader.pickle is pickle
    del sys.modules['late_reader']


@pytest.mark.parametrize('tag', ['object/apply:os.mkdir [RAN]', 'object/new:os.mkdir [RAN]', 'name:os.mkdir',
                                 'object:subprocess.Popen {}', 'module:os'])
def test_annotations_in_yaml_call_nothing(tmp_path, tag):
    path = tmp_path / 'a.yaml'
    path.write_text(f'data_list: !!python/{tag}'.replace('RAN', str(tmp_path / 'ran')))
    with safe_opening(), pytest.raises(CheckpointError, match=r'would run code.*in line 1; write it without'):
        mmengine.load(path)
    assert not (tmp_path / 'ran').exists()


def test_annotations_in_yaml_are_data_as_the_host_writes_them(tmp_path):
    content = {'a': [1, 2.5, 'x', None, True], 'b': (1, (2, 'y'))}
    mmengine.dump(content, tmp_path / 'a.yaml')
    with safe_opening():
        assert mmengine.load(tmp_path / 'a.yaml') == content


def test_good_files_are_read_by_the_hosts_loaders(tmp_path):
    state = MODELS.build(VIT_CFG).state_dict()
    torch.save({'state_dict': state, 'args': argparse.Namespace(a=1)}, tmp_path / 'a.pth')
    model = MODELS.build(VIT_CFG | dict(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))))
    with safe_opening():
        model.init_weights()
        assert torch.load(mae_file(tmp_path / 'b.pth'))['model']['cls_token'].shape == (1, 1, 16)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('where', ['cpu', torch.device('cpu'), None])
def test_tensors_are_where_they_are_wanted(tmp_path, where):
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.pth')
    assert load(tmp_path / 'a.pth', where)['a'].device.type == 'cpu'
    assert load(tmp_path / 'a.pth', 'meta')['a'].device.type == 'meta'


def test_tensors_that_processes_send_each_other_arrive():
    before = torch.storage._load_from_bytes
    with safe_opening(), safe_opening():
        sent = pickle.dumps({'correct': torch.arange(6).view(2, 3)[:, 1:]})
        assert pickle.loads(sent)['correct'].tolist() == [[1, 2], [4, 5]]
    assert torch.storage._load_from_bytes is before
    assert pickle.loads(sent)['correct'].tolist() == [[1, 2], [4, 5]]
