"""Attention distance, VIC and the conflict of gradients against the authors' numbers, in double precision."""

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.analysis.attention_distance import attention_distances, patch_distances
from mm_graft.analysis.vic import vic_by_block
from mm_graft.gradients import gradient_conflict, undisturbed
from tests.parity.builders import graft_model, graft_name, to_input, vit_arch
from tests.parity.test_mae import mae_name


@pytest.fixture(scope='module')
def data(golden):
    with np.load(golden / 'analysis_blocks.npz', allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture
def encoder(data, golden):
    model = graft_model(data)
    official = torch.load(golden / 'mocov3_tiny.pth.tar', weights_only=True)['state_dict']
    tensors = {graft_name(name): tensor.double() for name, tensor in official.items()}
    model.load_state_dict({**tensors, 'momentum_encoder.steps': torch.tensor(0)}, strict=True)
    return model.backbone.eval()


def grid_of(data):
    side = int(data['cfg_img']) // int(data['cfg_patch'])
    return (side, side)


def test_attention_distance_equals_the_authors(data, encoder):
    images = to_input(data['view1'])
    found = attention_distances(encoder, images.split(3), grid_of(data), int(data['cfg_patch']))
    np.testing.assert_allclose(found.per_block, data['attn_distance'], rtol=1e-9)
    np.testing.assert_allclose(found.per_head, data['attn_distance_per_head'], rtol=1e-9)
    np.testing.assert_allclose(found.distance.mean(2), data['attn_distance_per_image'], rtol=1e-9)
    np.testing.assert_allclose(found.mass_on_extra.mean((1, 2)), data['attn_mass_on_cls'], rtol=1e-9)


def test_distances_between_patches_equal_the_authors(data):
    distances = patch_distances(grid_of(data), int(data['cfg_patch']))
    np.testing.assert_allclose(distances[0], data['distance_row0'], rtol=1e-12)


def test_vic_equals_the_authors(data, encoder):
    views = [to_input(data[name]).split(3) for name in ('view1', 'view2')]
    found = vic_by_block(encoder, encoder, zip(*views))
    for name in ('norm', 'invariance', 'variance', 'covariance'):
        np.testing.assert_allclose(getattr(found, name), data[f'vic_{name}'], rtol=1e-8, err_msg=name)


@pytest.fixture
def joint(data, golden, read_npz):
    """MAE and MoCo v3 on the encoder of the golden file."""
    mae, start = read_npz('mae_forward.npz'), read_npz('graft_step.npz')
    parts = graft_model(data)
    width, patch = int(data['cfg_embed_dim']), int(data['cfg_patch'])
    model = MODELS.build(dict(
        type='mm_graft.JointMIMCL',
        backbone=dict(type='MAEViT', arch=vit_arch(data), img_size=int(data['cfg_img']), patch_size=patch,
                      out_type='cls_token', mask_ratio=float(mae['cfg_mask_ratio'])),
        neck=parts.neck,
        head=parts.head,
        decoder=dict(type='MAEPretrainDecoder', num_patches=grid_of(data)[0]**2, patch_size=patch, embed_dim=width,
                     decoder_embed_dim=int(mae['cfg_decoder_dim']), decoder_depth=int(mae['cfg_decoder_depth']),
                     decoder_num_heads=int(mae['cfg_decoder_heads'])),
        pixel_head=dict(type='MAEPretrainHead', norm_pix=True, patch_size=patch,
                        loss=dict(type='PixelReconstructionLoss', criterion='L2')))).double()
    official = torch.load(golden / 'mae_tiny_full.pth', weights_only=True)['model']
    tensors = {mae_name(name).replace('neck.', 'decoder.'): tensor for name, tensor in official.items()}
    for key in (key for key in start if key.startswith('init.')):
        name = key.removeprefix('init.')
        name = name if name.startswith('predictor') else f'base_encoder.{name}'
        tensors[graft_name(name)] = torch.from_numpy(start[key])
    missing, left_over = model.load_state_dict(tensors, strict=False)
    assert not left_over
    assert all(name.startswith('momentum_encoder.') or '.bn' in name for name in missing)
    model.start_momentum_encoders()
    return model.train()


def test_gradient_conflict_equals_the_definition(data, joint, monkeypatch):
    noise = torch.from_numpy(data['conflict_noise']).double()
    monkeypatch.setattr(torch, 'rand', lambda *size, device=None, **kwargs: noise)
    images, views = to_input(data['images']), [to_input(data[name]) for name in ('view1', 'view2')]
    losses = {}

    def keep(name, loss):
        losses[name] = loss.item()
        return loss

    with undisturbed(joint):
        found = gradient_conflict(joint, lambda: keep('mim', joint.pixel_loss(images)),
                                  lambda: keep('cl', joint.contrastive_loss(*views)))
    assert losses['mim'] == pytest.approx(float(data['conflict_loss_mim']), rel=1e-9)
    assert losses['cl'] == pytest.approx(float(data['conflict_loss_cl']), rel=1e-9)
    np.testing.assert_allclose(found.first_norm, data['conflict_norm_mim'], rtol=1e-7)
    np.testing.assert_allclose(found.second_norm, data['conflict_norm_cl'], rtol=1e-7)
    scale = data['conflict_norm_mim'] * data['conflict_norm_cl']
    np.testing.assert_allclose(found.dot / scale, data['conflict_dot'] / scale, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.cosine, data['conflict_cosine'], rtol=0, atol=1e-8)
