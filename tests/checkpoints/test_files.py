import hashlib
import os

import pytest
import torch
from safetensors.torch import load_file

from mm_graft.checkpoints import CheckpointError, convert_file, publish_file
from mm_graft.checkpoints.files import read_provenance
from mm_graft.version import __version__


@pytest.fixture
def source(tmp_path):
    tensors = {'cls_token': torch.randn(1, 1, 4), 'pos_embed': torch.randn(1, 5, 4), 'norm.weight': torch.randn(4),
               'blocks.0.norm1.weight': torch.randn(4), 'mask_token': torch.zeros(1, 1, 2)}
    torch.save({'model': tensors, 'epoch': 3, 'args': {'lr': 1}}, tmp_path / 'source.pth')
    return tmp_path / 'source.pth'


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('to', ['mmpretrain', 'timm', 'mae'])
def test_the_new_file_says_where_it_comes_from(source, tmp_path, suffix, to):
    record = convert_file(source, tmp_path / f'a{suffix}', None, to)
    assert read_provenance(tmp_path / f'a{suffix}') == record
    assert record['source_sha256'] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (record['from'], record['to'], record['tool']) == ('mae', to, f'mm_graft {__version__}')
    assert {'epoch', 'args'} <= set(record['dropped'])
    assert ('mask_token' in record['dropped']) == (to == 'timm')


def test_containers_are_those_of_the_kind(source, tmp_path):
    contents = {}
    for to in ('mmpretrain', 'timm', 'mae', 'mocov3'):
        convert_file(source, tmp_path / 'a.pth', None, to)
        contents[to] = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert 'backbone.cls_token' in contents['mmpretrain']['state_dict']
    assert 'cls_token' in contents['timm']
    assert 'cls_token' in contents['mae']['model']
    assert 'module.base_encoder.cls_token' in contents['mocov3']['state_dict']


def test_positions_are_resized_on_request_and_it_is_recorded(source, tmp_path):
    record = convert_file(source, tmp_path / 'a.safetensors', None, 'timm', grid=(4, 3))
    assert load_file(tmp_path / 'a.safetensors')['pos_embed'].shape == (1, 13, 4)
    assert record['grid'] == [4, 3]


def test_the_same_input_gives_the_same_file(source, tmp_path):
    for name in ('a.pth', 'b.pth'):
        convert_file(source, tmp_path / name, None, 'timm')
    assert (tmp_path / 'a.pth').read_bytes() == (tmp_path / 'b.pth').read_bytes()
    assert publish_file(source, tmp_path, 'x') == publish_file(source, tmp_path, 'x')


def test_a_failure_leaves_neither_file_nor_change(source, tmp_path, monkeypatch):
    target = tmp_path / 'out' / 'a.pth'
    with pytest.raises(CheckpointError):
        convert_file(source, target, 'mocov3', 'timm')
    assert not target.parent.exists()
    target.parent.mkdir()
    target.write_bytes(b'old')

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        convert_file(source, target, None, 'timm')
    assert target.read_bytes() == b'old'
    assert [path.name for path in target.parent.iterdir()] == ['a.pth']


def test_the_suffix_must_be_a_format(source, tmp_path):
    with pytest.raises(ValueError, match='safetensors'):
        convert_file(source, tmp_path / 'a.onnx', None, 'timm')
