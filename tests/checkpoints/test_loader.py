import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError, backbone_tensors, load_backbone, read_checkpoint
from tests.tiny import ARCH, VIT, grafted_mocov3, mae, mae_file


@pytest.fixture
def backbone():
    return MODELS.build(dict(type='mm_graft.GraftViT', **VIT))


@pytest.fixture
def path(tmp_path):
    return mae_file(tmp_path / 'mae.pth')


def save(state, path):
    torch.save(state, path)
    return str(path)


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(module, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_every_tensor_of_the_backbone_comes_from_the_file(backbone, path):
    coverage = load_backbone(backbone, path)
    official = torch.load(path, weights_only=True)['model']
    assert torch.equal(backbone.layers[3].ffn.layers[1].weight, official['blocks.3.mlp.fc2.weight'])
    assert torch.equal(backbone.pos_embed, official['pos_embed'])
    assert (coverage.path, coverage.layout, coverage.loaded) == (path, 'mae', len(backbone.state_dict()))
    assert coverage.dropped == {'mask_token': 'MAE decoder', 'decoder_norm.weight': 'MAE decoder'}


def test_the_report_says_what_was_loaded_and_left_out(backbone, path):
    text = str(load_backbone(backbone, path))
    assert text == (f'loaded all {len(backbone.state_dict())} backbone tensors from {path} (mae); '
                    'left out 2 (MAE decoder); assumed, as the file does not state it: heads 2, activation gelu, '
                    'grid 4 × 4; verified by checksums only, as it has no digest')


def test_the_same_weights_arrive_by_every_container_and_format(backbone, path, tmp_path):
    state = torch.load(path, weights_only=True)['model']
    load_backbone(backbone, path)
    expected = snapshot(backbone)
    files = [save(state, tmp_path / 'bare.pt'), save({'state_dict': state, 'epoch': 3}, tmp_path / 'a.tar'),
             save({'module': state}, tmp_path / 'b.pth'), str(tmp_path / 'c.safetensors')]
    safetensors.torch.save_file(state, files[-1])
    for file in files:
        fresh = MODELS.build(dict(type='mm_graft.GraftViT', **VIT))
        load_backbone(fresh, file)
        assert equal(fresh, expected), file


def test_the_momentum_branch_loads_the_other_encoder(backbone, tmp_path):
    model = MODELS.build(grafted_mocov3())
    with torch.no_grad():
        model.momentum_encoder.module[0].cls_token.fill_(7)
    file = save({'state_dict': model.state_dict()}, tmp_path / 'moco.pth')
    load_backbone(backbone, file)
    assert equal(backbone, model.backbone.state_dict())
    load_backbone(backbone, file, branch='momentum')
    assert equal(backbone, model.momentum_encoder.module[0].state_dict())


def test_the_kind_may_be_named(backbone, path):
    assert load_backbone(backbone, path, layout='mae').layout == 'mae'
    with pytest.raises(CheckpointError, match=r'mae\.pth.*unknown layout'):
        load_backbone(backbone, path, layout='dino')


@pytest.mark.parametrize('target', ['bare', 'wrapped'])
def test_timm_models_are_loaded_under_their_own_names(path, target):
    size = dict(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0, mlp_ratio=2)
    wrapped = MODELS.build(dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224', **size))
    vit = wrapped.timm_model
    load_backbone(vit if target == 'bare' else wrapped, path)
    official = torch.load(path, weights_only=True)['model']
    assert all(torch.equal(tensor, official[name]) for name, tensor in vit.state_dict().items())


def test_a_backbone_without_final_norm_leaves_it_out_and_says_so(path):
    backbone = MODELS.build(dict(type='VisionTransformer', **VIT, final_norm=False))
    coverage = load_backbone(backbone, path)
    assert coverage.dropped['ln1.weight'] == coverage.dropped['ln1.bias'] == 'the backbone has no final norm'


def test_a_runners_checkpoint_with_its_log_is_opened(backbone, tmp_path):
    hub = MessageHub.get_instance('of_test_loader')
    hub.update_scalar('train/loss', np.float64(0.5))
    content = {'state_dict': MODELS.build(mae()).state_dict(), 'message_hub': hub.state_dict(), 'meta': {'epoch': 1}}
    assert isinstance(content['message_hub']['log_scalars']['train/loss'], HistoryBuffer)
    file = save(content, tmp_path / 'epoch_1.pth')
    load_backbone(backbone, file)
    assert equal(backbone, {name.removeprefix('backbone.'): tensor for name, tensor in content['state_dict'].items()})


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command, )


class Reaches:
    """Asks for an attribute by the name of ``getattr``, which a Runner's log needs too, and perhaps calls it."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return ('text'.upper, ()) if self.call else (getattr, ('text', 'upper'))


@pytest.mark.parametrize('beside', [True, False])
def test_code_in_a_file_is_not_run(backbone, tmp_path, beside):
    trace, before = tmp_path / 'was_here', snapshot(backbone)
    hostile = Hostile(f'touch {trace}')
    content = {'state_dict': backbone.state_dict(), 'meta': hostile} if beside else hostile
    with pytest.raises(CheckpointError, match=r'hostile\.pth would run code.*\w+\.system'):
        load_backbone(backbone, save(content, tmp_path / 'hostile.pth'))
    assert not trace.exists()
    assert equal(backbone, before)


def test_a_name_that_a_runners_log_needs_does_nothing_in_a_strangers_file(backbone, tmp_path):
    state = backbone.state_dict()
    read = read_checkpoint(save({'state_dict': state, 'x': Reaches(call=False)}, tmp_path / 'getattr.pth'))
    assert set(read) == set(state)
    with pytest.raises(CheckpointError):
        read_checkpoint(save({'state_dict': state, 'x': Reaches(call=True)}, tmp_path / 'call.pth'))


def test_a_plain_pickle_is_refused(tmp_path):
    file = tmp_path / 'plain.pth'
    file.write_bytes(pickle.dumps(Hostile(f'touch {tmp_path / "was_here"}')))
    with pytest.raises(CheckpointError):
        read_checkpoint(file)
    assert not (tmp_path / 'was_here').exists()


@pytest.mark.parametrize('share', [0.0, 0.5, 0.99])
def test_a_cut_file_is_called_damaged(path, share):
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:int(share * len(content))])
    with pytest.raises(CheckpointError, match=r'mae\.pth is damaged or no checkpoint'):
        read_checkpoint(path)


@pytest.mark.parametrize('content', [b'\x00' * 64, b'<html>not found</html>'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_file_that_is_no_checkpoint_is_called_so(tmp_path, content, suffix):
    file = tmp_path / f'page{suffix}'
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf'page\{suffix} is damaged or no'):
        read_checkpoint(file)


@pytest.mark.parametrize(('content', 'message'), [
    (b'<!DOCTYPE html><p>404', 'a page of the web, .*; fetch it again'), (b'<html>', 'a page of the web'),
    (b'\x89HDF\r\n\x1a\n', 'an HDF5 file.*load it there'), (b'GGUF\3\0\0\0', r'a quantized file \(GGUF\); take'),
    (b'\x1f\x8b\x08', 'compressed by gzip; unpack it')])
def test_what_people_take_for_a_checkpoint_is_named(tmp_path, content, message):
    (tmp_path / 'a.pth').write_bytes(content + bytes(64))
    with pytest.raises(CheckpointError, match=f'no checkpoint: it is {message}'):
        read_checkpoint(tmp_path / 'a.pth')


def test_an_archive_of_arrays_is_named(tmp_path):
    np.savez(tmp_path / 'ViT-B_16.npz', cls=np.zeros(3), **{'Transformer/encoder_norm/bias': np.zeros(3)})
    with pytest.raises(CheckpointError, match=r'archive of NumPy arrays \(\.npz\).*; load it by timm'):
        read_checkpoint(tmp_path / 'ViT-B_16.npz')


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r'nowhere\.pth does not exist; give the path'):
        read_checkpoint(tmp_path / 'nowhere.pth')
    with pytest.raises(CheckpointError, match='is a folder'):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(('content', 'message'), [
    ([torch.zeros(1)], 'it holds a list'), ({'epoch': 3}, 'holds no tensors'), ({}, 'holds no tensors')])
def test_a_file_without_tensors_is_refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(save(content, tmp_path / 'empty.pth'))


def other_width(tmp_path):
    return mae_file(tmp_path / 'wide.pth', width=32)


def other_depth(tmp_path):
    return mae_file(tmp_path / 'deep.pth', layers=6)


def fewer_blocks(tmp_path):
    return mae_file(tmp_path / 'shallow.pth', layers=2)


def foreign(tmp_path):
    return save({'conv1.weight': torch.zeros(1), 'layer1.0.bn1.weight': torch.zeros(1)}, tmp_path / 'resnet.pth')


def one_missing(tmp_path):
    state = torch.load(mae_file(tmp_path / 'gap.pth'), weights_only=True)
    del state['model']['blocks.2.attn.qkv.bias']
    return save(state, tmp_path / 'gap.pth')


REFUSED = [
    (other_width, r'wide\.pth \(mae\): \d+ tensors have another shape, first cls_token: \(1, 1, 32\) in the file, '
     r'\(1, 1, 16\) in the model'),
    (other_depth, r"deep\.pth.*left over \['layers\.4\."),
    (fewer_blocks, r"shallow\.pth.*missing \['layers\.2\."),
    (foreign, r'resnet\.pth.*conv1\.weight.*belong to no known layout'),
    (one_missing, r"gap\.pth \(mae\) covers 53 of 54 backbone tensors; missing \['layers\.2\.attn\.qkv\.bias'\]"),
]


@pytest.mark.parametrize(('make', 'message'), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_a_file_that_does_not_fit_changes_nothing(backbone, tmp_path, make, message):
    before = snapshot(backbone)
    with pytest.raises(CheckpointError, match=message):
        load_backbone(backbone, make(tmp_path))
    assert equal(backbone, before)


def test_nothing_is_resized(tmp_path, path):
    larger = MODELS.build(dict(type='mm_graft.GraftViT', arch=ARCH, img_size=64, patch_size=8))
    with pytest.raises(CheckpointError, match='are of 4 × 4 patches, which is assumed, the backbone has 8 × 8'):
        load_backbone(larger, path)


def test_reading_the_tensors_alone_leaves_the_backbone_as_it_is(backbone, path):
    before = snapshot(backbone)
    tensors, coverage = backbone_tensors(backbone, path)
    assert set(tensors) == set(before)
    assert coverage.loaded == len(before)
    assert equal(backbone, before)


@pytest.mark.parametrize(('dtype', 'why'), [
    (torch.int8, 'as torch.int8, which PyTorch would silently turn into torch.float32; use weights that are not quant'),
    (torch.complex64, 'as torch.complex64'), (torch.float64, 'NaN or infinite')])
def test_numbers_that_the_backbone_cannot_hold_are_refused(backbone, tmp_path, dtype, why):
    before = snapshot(backbone)
    state = dict(before) | {'layers.1.ln2.bias': torch.full((16, ), 100).to(dtype)}
    if dtype == torch.float64:
        load_backbone(backbone, save({'state_dict': state}, tmp_path / 'a.pth'))
        backbone.load_state_dict(before)
        state['layers.1.ln2.bias'] = state['layers.1.ln2.bias'] * 1e40
    with pytest.raises(CheckpointError, match=rf'a\.pth has .*layers\.1\.ln2\.bias.*{why}|{why}.*layers\.1\.ln2\.bias'):
        load_backbone(backbone, save({'state_dict': state}, tmp_path / 'a.pth'))
    assert equal(backbone, before)


def test_eight_bit_floats_are_numbers(backbone, tmp_path):
    small = {name: tensor.to(torch.float8_e5m2) for name, tensor in snapshot(backbone).items()}
    load_backbone(backbone, save({'state_dict': small}, tmp_path / 'a.pth'))
    assert equal(backbone, {name: tensor.float() for name, tensor in small.items()})
    small['ln1.weight'] = torch.full((16, ), float('nan')).to(torch.float8_e5m2)
    with pytest.raises(CheckpointError, match=r'NaN or infinite, first ln1\.weight'):
        load_backbone(backbone, save({'state_dict': small}, tmp_path / 'a.pth'))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_no_numbers_are_refused(backbone, tmp_path, value):
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    state = dict(before)
    state['layers.1.ln2.bias'] = torch.full_like(state['layers.1.ln2.bias'], value)
    with pytest.raises(CheckpointError, match=r'nan\.pth .*NaN or infinite, first layers\.1\.ln2\.bias'):
        load_backbone(backbone, save({'state_dict': state}, tmp_path / 'nan.pth'))
    assert equal(backbone, before)
