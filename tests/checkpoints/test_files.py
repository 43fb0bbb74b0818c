import hashlib
import os

import pytest
import torch
from safetensors.torch import load_file

from mm_graft.checkpoints import CheckpointError, Origin, convert_file, publish_file
from mm_graft.checkpoints.files import read_provenance
from mm_graft.version import __version__
from tests.tiny import vit_state


@pytest.fixture
def source(tmp_path):
    tensors = vit_state(4, 1, tokens=5, mlp=8) | {'mask_token': torch.zeros(1, 1, 2)}
    torch.save({'model': tensors, 'epoch': 3, 'args': {'lr': 1}}, tmp_path / 'source.pth')
    return tmp_path / 'source.pth'


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('to', ['mmpretrain', 'timm', 'mae'])
def test_the_new_file_says_where_it_comes_from(source, tmp_path, suffix, to):
    record = convert_file(Origin(source), tmp_path / f'a{suffix}', to)
    assert read_provenance(tmp_path / f'a{suffix}') == record
    assert record['source_sha256'] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (record['from'], record['to'], record['tool']) == ('mae', to, f'mm_graft {__version__}')
    assert {'epoch', 'args'} <= set(record['dropped'])
    assert ('mask_token' in record['dropped']) == (to == 'timm')


def test_containers_are_those_of_the_layout(source, tmp_path):
    contents = {}
    for to in ('mmpretrain', 'timm', 'mae', 'mocov3'):
        convert_file(Origin(source), tmp_path / 'a.pth', to)
        contents[to] = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert 'backbone.cls_token' in contents['mmpretrain']['state_dict']
    assert 'cls_token' in contents['timm']
    assert 'cls_token' in contents['mae']['model']
    assert 'module.base_encoder.cls_token' in contents['mocov3']['state_dict']


def test_positions_are_resized_on_request_and_it_is_recorded(source, tmp_path):
    record = convert_file(Origin(source), tmp_path / 'a.safetensors', 'timm', grid=(4, 3))
    assert load_file(tmp_path / 'a.safetensors')['pos_embed'].shape == (1, 13, 4)
    assert (record['grid'], record['grid_known']) == ([4, 3], 'given')
    assert convert_file(Origin(source), tmp_path / 'b.pth', 'timm')['grid_known'] == 'assumed'


def test_the_grid_of_the_source_can_be_given_and_travels_with_the_file(tmp_path):
    torch.save(vit_state(8, 1, tokens=17), tmp_path / 'wide.pth')
    record = convert_file(Origin(tmp_path / 'wide.pth', grid=(2, 8)), tmp_path / 'a.pth', 'mmpretrain')
    assert (record['grid'], record['grid_known']) == ([2, 8], 'given')
    again = convert_file(Origin(tmp_path / 'a.pth'), tmp_path / 'b.safetensors', 'timm', grid=(4, 4))
    assert again['grid'] == [4, 4]
    square = convert_file(Origin(tmp_path / 'wide.pth'), tmp_path / 'c.safetensors', 'timm', grid=(4, 4))
    assert square['grid'] == [4, 4]
    positions = [load_file(tmp_path / name)['pos_embed'] for name in ('b.safetensors', 'c.safetensors')]
    assert not positions[0].equal(positions[1])
    with pytest.raises(CheckpointError, match='not of the given 3 × 3 patches'):
        convert_file(Origin(tmp_path / 'wide.pth', grid=(3, 3)), tmp_path / 'd.pth', 'timm')


def test_prefix_and_container_can_be_given(tmp_path):
    state = vit_state(4, 1, tokens=5, mlp=8)
    both = {f'left.{name}': tensor for name, tensor in state.items()}
    both |= {f'right.{name}': tensor + 1 for name, tensor in state.items()}
    torch.save({'mine': both}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='name the one that is the state dict by container'):
        convert_file(Origin(tmp_path / 'a.pth'), tmp_path / 'b.safetensors', 'timm')
    with pytest.raises(CheckpointError, match='name one by prefix'):
        convert_file(Origin(tmp_path / 'a.pth', container='mine'), tmp_path / 'b.safetensors', 'timm')
    convert_file(Origin(tmp_path / 'a.pth', container='mine', prefix='right.'), tmp_path / 'b.safetensors', 'timm')
    assert load_file(tmp_path / 'b.safetensors')['cls_token'].equal(state['cls_token'] + 1)


def test_weights_that_are_no_numbers_are_not_passed_on(tmp_path):
    torch.save(vit_state(4, 1) | {'norm.weight': torch.full((4, ), float('nan'))}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'NaN or infinite, first backbone\.ln1\.weight'):
        convert_file(Origin(tmp_path / 'a.pth'), tmp_path / 'b.pth', 'mmpretrain')
    assert not (tmp_path / 'b.pth').exists()


def test_the_same_input_gives_the_same_file(source, tmp_path):
    for name in ('a.pth', 'b.pth'):
        convert_file(Origin(source), tmp_path / name, 'timm')
    assert (tmp_path / 'a.pth').read_bytes() == (tmp_path / 'b.pth').read_bytes()
    assert publish_file(Origin(source), tmp_path, 'x') == publish_file(Origin(source), tmp_path, 'x')


def test_a_failure_leaves_neither_file_nor_change(source, tmp_path, monkeypatch):
    target = tmp_path / 'out' / 'a.pth'
    with pytest.raises(CheckpointError):
        convert_file(Origin(source, 'mocov3'), target, 'timm')
    assert not target.parent.exists()
    target.parent.mkdir()
    target.write_bytes(b'old')

    def fail(*args):
        raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError, match='disk full'):
        convert_file(Origin(source), target, 'timm')
    assert target.read_bytes() == b'old'
    assert [path.name for path in target.parent.iterdir()] == ['a.pth']


def test_the_suffix_must_be_a_format(source, tmp_path):
    with pytest.raises(ValueError, match='safetensors'):
        convert_file(Origin(source), tmp_path / 'a.onnx', 'timm')


@pytest.mark.parametrize('write', [
    lambda source, file: publish_file(Origin(source), file, 'a'),
    lambda source, file: convert_file(Origin(source), file / 'deeper' / 'a.pth', 'timm')])
def test_a_file_is_no_folder(source, tmp_path, write):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match=r'file is a file; name a folder'):
        write(source, tmp_path / 'file')


@pytest.mark.parametrize('linked', [False, True])
def test_what_is_read_is_not_written_over(source, tmp_path, linked):
    target = tmp_path / 'link.pth' if linked else source
    if linked:
        target.symlink_to(source)
    before = source.read_bytes()
    with pytest.raises(ValueError, match=r'is the file that is read, which would be lost; name another one'):
        convert_file(Origin(source), target, 'timm')
    assert source.read_bytes() == before


def test_a_run_is_not_written_over_but_another_conversion_is(source, tmp_path):
    torch.save({'optimizer': {}, 'meta': {'iter': 3}}, tmp_path / 'epoch_1.pth')
    before = (tmp_path / 'epoch_1.pth').read_bytes()
    with pytest.raises(ValueError, match=r'epoch_1\.pth is the state of a run, which would be lost; name another file'):
        convert_file(Origin(source), tmp_path / 'epoch_1.pth', 'timm')
    assert (tmp_path / 'epoch_1.pth').read_bytes() == before
    (tmp_path / 'a.pth').write_bytes(b'no checkpoint')
    for to in ('timm', 'mae'):
        assert convert_file(Origin(source), tmp_path / 'a.pth', to)['to'] == to


def test_plain_is_for_encoders_with_taps(source, tmp_path):
    with pytest.raises(ValueError, match=r'--plain.* has no norms of taps; leave it out'):
        publish_file(Origin(source), tmp_path, 'x', plain=True)
