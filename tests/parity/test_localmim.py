"""LocalMIM against the authors' numbers. Sizes are read from the file, so any instance of it can be checked."""

import json

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.checkpoints import load_backbone
from mm_graft.checkpoints.localmim import LOCALMIM
from mm_graft.engine.schedulers.warmup_cosine import WarmupCosineLR
from mm_graft.models.heads.localmim_head import rescale_mask
from tests.parity.builders import to_input

PRECISIONS = [torch.float64, torch.float32]


def vit(config: dict, **kwargs) -> dict:
    arch = {'embed_dims': config['embed_dim'], 'num_layers': config['depth'], 'num_heads': config['num_heads'],
            'feedforward_channels': int(config['embed_dim'] * config['mlp_ratio'])}
    return {'arch': arch, 'img_size': config['img_size'], 'patch_size': config['patch_size'],
            'norm_cfg': {'type': 'LN', 'eps': config['ln_eps']}, **kwargs}


def build(config: dict) -> torch.nn.Module:
    patch, scales = config['patch_size'], config['scales']
    return MODELS.build({
        'type': 'mm_graft.LocalMIM',
        'backbone': vit(config, type='mm_graft.VisiblePatchViT', taps=[tap + 1 for tap in config['taps']],
                        mask_ratio=config['mask_ratio']),
        'neck': {
            'type': 'mm_graft.LocalMIMNeck', 'in_channels': config['embed_dim'], 'scales': scales,
            'grids': config['img_size'] // patch,
            'out_channels': 3 * config['hog_nbins'], 'embed_dims': config['decoder_embed_dim'],
            'num_heads': config['decoder_num_heads'], 'depth': config['decoder_depth'],
            'mlp_ratio': config['mlp_ratio'], 'norm_cfg': {'type': 'LN', 'eps': config['ln_eps']}},
        'target_generator': {
            'type': 'mm_graft.HOGTarget', 'nbins': config['hog_nbins'], 'random_bias': config['hog_bias'],
            'cells': [int(patch / scale) for scale in scales]},
        'head': {'type': 'mm_graft.LocalMIMHead'}})


@pytest.fixture(scope='module')
def stored(golden):
    with np.load(golden / 'localmim_vit_tiny.npz', allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope='module', params=PRECISIONS, ids=['fp64', 'fp32'])
def step(request, stored):
    """One forward and backward pass with the stored weights and noise."""
    model = build(json.loads(str(stored['config_json'])))
    state = {name[3:]: torch.from_numpy(stored[name]) for name in stored if name.startswith('sd/')}
    model.load_state_dict(LOCALMIM.read(state).backbone, strict=True)
    model.to(request.param)
    images = to_input(stored['images']).to(request.param)
    taps, mask, ids_restore = model.backbone.encode_visible(images, torch.from_numpy(stored['noise']))
    preds = model.neck(taps, ids_restore)
    targets = model.target_generator(images)
    grid = mask.unflatten(1, model.backbone.patch_resolution)
    losses = model.head.loss(preds, targets, grid)
    total, _ = model.parse_losses(losses)
    total.backward()
    return {'model': model, 'taps': taps, 'mask': grid, 'ids_restore': ids_restore, 'preds': preds,
            'targets': targets, 'losses': losses, 'total': total, 'fp64': request.param == torch.float64}


def agree(step, ours: torch.Tensor, theirs: np.ndarray) -> None:
    atol = 1e-6 if step['fp64'] else 2e-5 * max(float(np.abs(theirs).max()), 1e-3)
    np.testing.assert_allclose(ours.detach().double().numpy(), theirs, rtol=0, atol=atol)


def test_localmim_hides_the_stored_patches(step, stored):
    np.testing.assert_array_equal(step['mask'].flatten(1).numpy(), stored['mask'].astype(bool))
    np.testing.assert_array_equal(step['ids_restore'].numpy(), stored['ids_restore'])


def test_localmim_taps_agree(step, stored):
    for k, tap in enumerate(step['taps']):
        agree(step, tap, stored[f'tap/{k}'])


@pytest.mark.parametrize('kind', ['pred', 'target'])
def test_localmim_predictions_and_targets_agree(step, stored, kind):
    for k, tensor in enumerate(step[f'{kind}s']):
        agree(step, tensor[:, ::int(stored[f'token_stride/{k}'])], stored[f'{kind}/{k}'])
        if f'{kind}_tokensum/{k}' in stored:
            np.testing.assert_allclose(tensor.detach().double().sum(-1).numpy(), stored[f'{kind}_tokensum/{k}'],
                                       atol=1e-5 if step['fp64'] else 3e-4)
        wide = tensor.detach().double()
        sums = [wide.sum().item(), wide.abs().sum().item(), wide.square().sum().item()]
        np.testing.assert_allclose(sums, stored[f'{kind}_sums/{k}'], rtol=1e-7 if step['fp64'] else 1e-4, atol=1e-2)


def test_localmim_masks_agree_at_every_scale(step, stored):
    for k, pred in enumerate(step['preds']):
        np.testing.assert_array_equal(rescale_mask(step['mask'], pred.shape[1]).numpy(), stored[f'loss_mask/{k}'])


def test_localmim_losses_agree_and_their_plain_sum_is_optimized(step, stored):
    rtol = 1e-9 if step['fp64'] else 1e-5
    terms = [term.item() for term in step['losses'].values()]
    np.testing.assert_allclose(terms, stored['loss_per_scale'], rtol=rtol)
    np.testing.assert_allclose(step['total'].item(), stored['loss_total'], rtol=rtol)
    np.testing.assert_allclose(step['total'].item(), stored['loss_total_fp32'], rtol=1e-5)


def test_localmim_gradient_norms_agree_for_every_parameter(step, stored):
    rtol = 1e-7 if step['fp64'] else 1e-4
    norms = {name: param.grad.double().norm().item()
             for name, param in step['model'].named_parameters() if param.grad is not None}
    theirs = {LOCALMIM.names.to_host(name[len('grad_norm/'):]): float(stored[name])
              for name in stored if name.startswith('grad_norm/')}
    assert norms.keys() == theirs.keys()
    floor = (1e-9 if step['fp64'] else 1e-6) * float(stored['grad_norm_total'])
    for name, norm in theirs.items():
        assert norms[name] == pytest.approx(norm, rel=rtol, abs=floor), name
    assert np.linalg.norm(list(norms.values())) == pytest.approx(float(stored['grad_norm_total']), rel=rtol)


def test_localmim_position_tables_are_the_authors(stored):
    model = build(json.loads(str(stored['config_json'])))
    model.init_weights()
    np.testing.assert_allclose(model.backbone.pos_embed.numpy(force=True), stored['sd/pos_embed'], atol=1e-6)
    for k, decoder in enumerate(model.neck.decoders):
        np.testing.assert_allclose(decoder.pos_embed.numpy(), stored[f'sd/decoder.{k}.pos_embed'][:, 1:], atol=1e-6)


@pytest.fixture(scope='module')
def features(golden):
    with np.load(golden / 'localmim_checkpoint_features.npz', allow_pickle=False) as file:
        return dict(file)


@pytest.mark.parametrize(('options', 'key'), [
    ({'final_norm': False, 'out_type': 'raw'}, 'tokens_last_block'),
    ({'final_norm': True, 'out_type': 'raw'}, 'tokens_last_tap_norm'),
], ids=['without norm', 'last tap norm'])
def test_localmim_checkpoint_gives_the_authors_features_in_the_hosts_vit(golden, features, options, key):
    config = json.loads(str(features['config_json']))
    backbone = MODELS.build(vit(config, type='VisionTransformer', **options))
    backbone.eval()
    coverage = load_backbone(backbone, next(golden.glob('localmim_checkpoint-*.pth')))
    assert coverage.layout == 'localmim'
    inputs = []
    backbone.layers[0].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    with torch.no_grad():
        tokens = backbone(to_input(features['images']).float())[-1]
    for ours, name in ((inputs[0], 'embedded_tokens'), (tokens, key)):
        np.testing.assert_allclose(ours.numpy(), features[name], rtol=0, atol=2e-5 * np.abs(features[name]).max())


def test_localmim_checkpoint_gives_the_authors_fine_tuning_features(golden, features):
    config = json.loads(str(features['config_json']))
    backbone = MODELS.build(vit(config, type='VisionTransformer', final_norm=False, out_type='avg_featmap'))
    backbone.eval()
    load_backbone(backbone, next(golden.glob('localmim_checkpoint-*.pth')))
    fc_norm, backbone.ln2 = backbone.ln2, torch.nn.Identity()
    with torch.no_grad():
        mean = backbone(to_input(features['images']).float())[-1]
        normed = fc_norm(mean)
    for ours, name in ((mean, 'patch_mean'), (normed, 'patch_mean_fc_norm_default')):
        np.testing.assert_allclose(ours.numpy(), features[name], rtol=0, atol=2e-5 * np.abs(features[name]).max())


def test_localmim_learning_rates_agree(golden):
    with np.load(golden / 'localmim_lr.npz', allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    per_epoch, base = int(stored['iters_per_epoch']), float(stored['base_lr'])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    schedule = WarmupCosineLR(
        optimizer, warmup=int(stored['warmup_epochs']) * per_epoch, end=int(stored['epochs']) * per_epoch,
        min_ratio=float(stored['min_lr']) / base, by_epoch=False)
    rates = []
    for _ in range(int(stored['iteration'].max()) + 1):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(np.array(rates)[stored['iteration']], stored['lr'], rtol=1e-9, atol=0)
