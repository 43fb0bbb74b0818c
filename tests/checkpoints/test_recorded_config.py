import pytest
import torch
from mmengine.config import Config

from mm_graft.checkpoints import CheckpointError
from mm_graft.checkpoints.recorded_config import LIMIT, changes, parse_config, recorded_config

SETTINGS = dict(
    model=dict(type='MAE', backbone=dict(img_size=(32, 64), drop=-0.5)), load_from=None,
    custom_hooks=[dict(type='Kill', when={'epoch.1': True}), dict(type='Other', at=[])],
    optim_wrapper=dict(paramwise_cfg=dict(custom_keys={'backbone.cls_token': dict(lr_mult=0.0)}), max=float('inf')))


def test_what_a_runner_writes_is_read_back():
    found = parse_config(Config(SETTINGS).pretty_text)
    assert found == SETTINGS
    assert type(found['model']['backbone']['img_size']) is tuple  # which the host tells apart from a list


def test_nothing_runs(tmp_path):
    text = f"a = open({str(tmp_path / 'ran')!r}, 'w')\nb = [1, __import__('os').getcwd()]\nimport antigravity\n"
    assert parse_config(text) == {'a': f"open({str(tmp_path / 'ran')!r}, 'w')",
                                  'b': [1, "__import__('os').getcwd()"]}
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('text', [None, 5, 'a = (', 'a = dict(1)', '(' * 10**5, 'a = ' + '-' * 10**5 + '1',
                                  f'a = "{"b" * LIMIT}"', 'a = dict([1])', 'a = {[]: 1}', 'a = -"b"', 'a\0'])
def test_what_is_no_config_is_none(text):
    assert parse_config(text) is None


def found(old, new):
    return [str(change) for change in changes(old, new)]


def test_every_changed_setting_is_named_with_both_values():
    old = dict(lr=0.1, type='A', nested=dict(x=1, gone=2), steps=[1, 2, 3], same=dict(y=[dict(z=1)]))
    new = dict(lr=0.2, type='A', nested=dict(x=1, added='b'), steps=[1, 5], same=dict(y=[dict(z=1)]))
    assert found(old, new) == ['lr: 0.1 → 0.2', 'nested.gone: 2 → not set', "nested.added: not set → 'b'",
                               'steps.1: 2 → 5', 'steps.2: 3 → not set']


def test_another_kind_of_value_is_a_change_and_nan_is_none():
    assert found(dict(a=[1], b=dict()), dict(a=dict(c=1), b=None)) == ["a: [1] → {'c': 1}", 'b: {} → None']
    assert found(dict(a=float('nan')), dict(a=float('nan'))) == []


def test_a_long_value_is_cut_short():
    line, = found(dict(a='b' * 500), {})
    assert len(line) < 130


def test_a_list_and_a_tuple_of_the_same_values_are_no_change():
    assert found(dict(size=[1, 2]), dict(size=(1, 2))) == []
    assert found(dict(size=[1, 2]), dict(size=(1, 3))) == ['size.1: 2 → 3']


def recorded(tmp_path, **cfg):
    torch.save({'state_dict': {}, 'meta': {'cfg': Config(cfg).pretty_text}}, tmp_path / 'a.pth')
    return recorded_config(tmp_path / 'a.pth')


def test_a_file_says_how_it_was_made_with_and_without_the_state_of_its_optimizer(tmp_path):
    model = dict(type='MAE', backbone=dict(type='mm_graft.GraftViT', img_size=32))
    cfg = recorded(tmp_path, model=model, train_dataloader=dict(dataset=dict(type='mmpretrain.CustomDataset')))
    assert cfg.model.to_dict() == model
    assert cfg.filename is None
    assert recorded(tmp_path, model=dict(type='MAE')) is None
    torch.save({'state_dict': {}}, tmp_path / 'a.pth')
    assert recorded_config(tmp_path / 'a.pth') is None


VIT = dict(type='MAEViT')
CALL = dict(type='subprocess.Popen', args='true')


@pytest.mark.parametrize('settings', [
    dict(custom_hooks=[CALL]), dict(default_hooks=dict(evil=CALL)), dict(visualizer=CALL), dict(log_processor=CALL),
    dict(param_scheduler=[CALL]), dict(runner_type='subprocess.Popen'), dict(custom_imports=dict(imports=['this'])),
    dict(load_from='other.pth', resume=True), dict(env_cfg=dict(dist_cfg=dict(backend='x')))], ids=str)
def test_of_a_file_model_data_and_test_are_taken_over_and_nothing_else(tmp_path, settings):
    kept = dict(model=dict(backbone=VIT), test_cfg=dict(type='TestLoop'), test_evaluator=dict(type='Accuracy'),
                default_scope='mmpretrain', val_cfg=dict(fp16=True), train_cfg=dict(by_epoch=True), base_lr=0.1,
                max_epochs=2)
    assert recorded(tmp_path, **kept, **settings).to_dict() == kept


@pytest.mark.parametrize('settings', [
    dict(test_dataloader=dict(dataset=dict(pipeline=[
        dict(type='torchvision/ConvertImageDtype', dtype='float32 if exit() else 0')]))),
    dict(model=dict(backbone=VIT, head=dict(type='HuggingFaceClassifier', trust_remote_code=True)))])
def test_a_file_gives_no_value_that_the_hosts_would_run(tmp_path, settings):
    with pytest.raises(CheckpointError, match=r'was made with \w+\..*(dtype|trust_remote_code)=.*would run code'):
        recorded(tmp_path, **dict(model=dict(backbone=VIT)) | settings)


@pytest.mark.parametrize('dtype', ['float32', 'torch.float16', None])
def test_a_type_of_numbers_is_taken_over(tmp_path, dtype):
    assert recorded(tmp_path, model=dict(backbone=VIT | dict(dtype=dtype))).model.backbone.dtype == dtype


@pytest.mark.parametrize('name', ['os.system', 'mmengine.call_command', 'NoSuch', ['MAE']])
def test_a_file_chooses_no_function_to_call(tmp_path, name):
    for cfg in (dict(model=dict(type=name, backbone=VIT)), dict(model=dict(backbone=dict(type=name))),
                dict(model=dict(backbone=VIT), test_dataloader=dict(dataset=dict(pipeline=[dict(type=name)]))),
                dict(model=dict(backbone=VIT), test_cfg=dict(type=name)),
                dict(model=dict(backbone=VIT), optim_wrapper=dict(optimizer=dict(type=name)))):
        with pytest.raises(CheckpointError, match='no registered class'):
            recorded(tmp_path, **cfg)
    assert recorded(tmp_path, model=dict(backbone=VIT), custom_hooks=[dict(type=name)])  # which no command builds
