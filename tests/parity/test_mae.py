"""The host's MAE, fed with the authors' weights, against the authors' numbers; and what grafting takes from it."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.checkpoints import load_backbone
from mm_graft.checkpoints.names import VIT, NameMap
from tests.parity.builders import to_input, vit_arch

to_host = NameMap(VIT).to_host


@pytest.fixture
def data(read_npz):
    return read_npz('mae_forward.npz')


@pytest.fixture
def model(data, golden):
    width, patch = int(data['cfg_embed_dim']), int(data['cfg_patch'])
    grid = int(data['cfg_img']) // patch
    model = MODELS.build(dict(
        type='MAE',
        backbone=dict(type='MAEViT', arch=vit_arch(data), img_size=int(data['cfg_img']), patch_size=patch,
                      mask_ratio=float(data['cfg_mask_ratio'])),
        neck=dict(type='MAEPretrainDecoder', num_patches=grid**2, patch_size=patch, embed_dim=width,
                  decoder_embed_dim=int(data['cfg_decoder_dim']), decoder_depth=int(data['cfg_decoder_depth']),
                  decoder_num_heads=int(data['cfg_decoder_heads'])),
        head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=patch,
                  loss=dict(type='PixelReconstructionLoss', criterion='L2')))).double()
    official = torch.load(golden / 'mae_tiny_full.pth', weights_only=True)['model']
    model.load_state_dict({mae_name(name): tensor for name, tensor in official.items()}, strict=True)
    return model.train()


def mae_name(official):
    """Name in the host's MAE of an official tensor."""
    if not official.startswith(('decoder_', 'mask_token')):
        return 'backbone.' + to_host(official)
    if official.startswith('decoder_blocks.'):
        renamed = to_host(official.removeprefix('decoder_'))
        return 'neck.decoder_blocks.' + renamed.removeprefix('layers.')
    return 'neck.' + official.replace('decoder_norm', 'ln1')


def reconstruct(model, data, monkeypatch, norm_pix=True):
    """Loss and prediction with the file's noise in place of the random one."""
    monkeypatch.setattr(torch, 'rand', lambda *size, device=None, **kwargs: torch.from_numpy(data['noise']).double())
    model.head.norm_pix = norm_pix
    images = to_input(data['images'])
    latent, mask, ids_restore = model.backbone(images)
    prediction = model.neck(latent, ids_restore)
    return model.head.loss(prediction, images, mask), latent, mask, ids_restore, prediction


def test_loss_mask_and_prediction_equal_the_authors(model, data, monkeypatch):
    loss, latent, mask, ids_restore, prediction = reconstruct(model, data, monkeypatch)
    assert loss.item() == pytest.approx(float(data['loss']), rel=1e-9)
    np.testing.assert_array_equal(mask.numpy().astype(np.uint8), data['mask'])
    np.testing.assert_array_equal(ids_restore.numpy(), data['ids_restore'])
    np.testing.assert_allclose(latent[:, 0].detach().numpy(), data['latent_cls'], rtol=1e-8, atol=1e-10)
    flat = prediction.detach().flatten(1)
    np.testing.assert_allclose(flat.square().sum(1).numpy(), data['pred_sumsq'], rtol=1e-9)
    np.testing.assert_allclose(flat.sum(1).numpy(), data['pred_sum'], rtol=1e-8, atol=1e-7)
    first = mask.argmax(1)
    ours = prediction[torch.arange(len(first)), first].detach().numpy()
    np.testing.assert_allclose(ours, data['pred_first_removed'], rtol=1e-8, atol=1e-10)


def test_loss_on_raw_pixels_equals_the_authors(model, data, monkeypatch):
    loss = reconstruct(model, data, monkeypatch, norm_pix=False)[0]
    assert loss.item() == pytest.approx(float(data['loss_no_norm_pix']), rel=1e-9)


def test_gradients_equal_the_authors(model, data, monkeypatch):
    reconstruct(model, data, monkeypatch)[0].backward()
    parameters = dict(model.named_parameters())
    for name, norm in zip(data['grad_names'], data['grad_norms']):
        assert parameters[mae_name(name)].grad.norm().item() == pytest.approx(norm, rel=1e-7, abs=1e-14), name


@pytest.mark.parametrize('file', ['mae_tiny.pth', 'mae_tiny_full.pth'])
def test_an_encoder_loaded_from_either_file_gives_the_authors_feature(data, golden, file):
    encoder = MODELS.build(dict(type='mm_graft.GraftViT', arch=vit_arch(data), img_size=int(data['cfg_img']),
                                patch_size=int(data['cfg_patch']))).double().eval()
    load_backbone(encoder, golden / file)
    with torch.no_grad():
        feature = encoder(to_input(data['images'][:2]))[0]
    np.testing.assert_allclose(feature.numpy(), data['cls_feature'], rtol=1e-9)


def test_position_tables_of_mae_and_mocov3_are_transposed(read_npz):
    tables = read_npz('mae_pos_embed.npz')
    name = next(name for name in tables if name.startswith('mae_'))  # mae_4x4_16: rows, columns, channels
    mae, mocov3 = tables[name], tables[name.replace('mae', 'mocov3')]
    side = round((len(mae) - 1)**0.5)
    grid = mocov3[1:].reshape(side, side, -1).transpose(1, 0, 2).reshape(side**2, -1)
    np.testing.assert_allclose(mae[1:], grid, atol=1e-6)
    assert np.abs(mae - mocov3).max() > 1.9
