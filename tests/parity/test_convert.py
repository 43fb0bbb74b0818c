"""The authors' checkpoints through every layout that can hold them, against the authors' features."""

import itertools
import json

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS

from mm_graft.checkpoints import (
    CheckpointError,
    Origin,
    convert_file,
    detect_layout,
    load_backbone,
    publish_file,
    read_checkpoint,
)
from tests.parity.builders import to_input, vit_arch

FILES = {'mae': 'mae_tiny.pth', 'mae_full': 'mae_tiny_full.pth', 'mocov3': 'mocov3_tiny.pth.tar',
         'conmim': 'conmim_checkpoint-*.pth', 'conmim_teacher': 'conmim_checkpoint_copy-*.pth',
         'localmim': 'localmim_checkpoint-*.pth'}
KIND = {'mae_full': 'mae', 'conmim_teacher': 'conmim'}
# What no other layout can hold: an unused classifier, and indices that follow from the grid
NOT_KEPT = ('lm_head.', 'rel_pos_bias.relative_position_index')


def source_of(golden, name):
    return next(golden.glob(FILES[name]))


def json_arch(data):
    c = json.loads(str(data['config_json']))
    arch = {'embed_dims': c['embed_dim'], 'num_layers': c['depth'], 'num_heads': c['num_heads'],
            'feedforward_channels': int(c['embed_dim'] * c['mlp_ratio'])}
    return {'arch': arch, 'img_size': c['img_size'], 'patch_size': c['patch_size'],
            'norm_cfg': {'type': 'LN', 'eps': c['ln_eps']}}


class Case:
    """A checkpoint of the authors: encoders that take it, and what they must return."""

    def __init__(self, golden, name):
        self.name, self.path = name, source_of(golden, name)
        archive = {'mae': 'mae_forward', 'mocov3': 'mocov3_forward', 'conmim': 'conmim_checkpoint_features',
                   'localmim': 'localmim_checkpoint_features'}[name.split('_')[0]]
        with np.load(golden / f'{archive}.npz', allow_pickle=False) as file:
            self.data = dict(file)

    def encoder(self, **options):
        if 'config_json' not in self.data:
            data = self.data
            return MODELS.build(dict(type='VisionTransformer', arch=vit_arch(data), img_size=int(data['cfg_img']),
                                     patch_size=int(data['cfg_patch']), out_type='raw'))
        sizes = json_arch(self.data)
        kind = 'mm_graft.ConMIMViT' if self.name.startswith('conmim') else 'VisionTransformer'
        return MODELS.build(dict(type=kind, out_type='raw', **sizes, **options))

    def images_and_tokens(self, branch='base'):
        """Images, the slice of the output tokens that is stored, and the stored values."""
        data = self.data
        if self.name.startswith('mae'):
            return data['images'][:2], 0, data['cls_feature']
        if self.name == 'mocov3':
            return data['view1'][:2], 0, data['cls_feature' if branch == 'base' else 'cls_feature_momentum']
        if self.name == 'localmim':
            return data['images'], slice(None), data['tokens_last_tap_norm']
        network = 'teacher' if self.name.endswith('teacher') else 'student'
        return data['images'], slice(None), data[f'{network}/tokens_final_norm']

    def check(self, tokens_of, branch='base'):
        images, where, expected = self.images_and_tokens(branch)
        with torch.no_grad():
            actual = tokens_of(to_input(images).float())[:, where].numpy()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.fixture(params=FILES)
def case(request, golden):
    return Case(golden, request.param)


def run(encoder):
    encoder.eval()  # of the host's ViTs this returns None
    return lambda images: encoder(images)[-1]


def test_convert_detects_the_kind_of_every_file(case):
    assert detect_layout(read_checkpoint(case.path)) == KIND.get(case.name, case.name)


def test_convert_gives_the_authors_features_from_their_file_and_from_every_other_layout(case, tmp_path):
    kind = KIND.get(case.name, case.name)
    for branch in ('base', 'momentum') if kind == 'mocov3' else ('base',):
        encoder = case.encoder()
        assert load_backbone(encoder, case.path, branch=branch).layout == kind
        case.check(run(encoder), branch)
        for to, suffix in itertools.product((kind, 'mmpretrain', 'timm'), ('.pth', '.safetensors')):
            target = tmp_path / f'{branch}-{to}{suffix}'
            convert_file(Origin(case.path, branch=branch), target, to)
            unmasked = dict(with_mask_token=False) if to == 'timm' and kind == 'conmim' else {}
            encoder = case.encoder(**unmasked)
            load_backbone(encoder, target)
            case.check(run(encoder), branch)


def test_convert_there_and_back_is_bit_identical(case, tmp_path):
    kind = KIND.get(case.name, case.name)
    original = {name: tensor for name, tensor in read_checkpoint(case.path).items()
                if not name.startswith(NOT_KEPT)}
    for suffix in ('.pth', '.safetensors'):
        there, back = tmp_path / f'there{suffix}', tmp_path / f'back{suffix}'
        convert_file(Origin(case.path, kind), there, 'mmpretrain')
        convert_file(Origin(there, 'mmpretrain'), back, kind)
        returned = read_checkpoint(back)
        assert set(returned) == set(original)
        for name, tensor in original.items():
            assert returned[name].dtype == tensor.dtype
            assert returned[name].equal(tensor), name


def test_convert_accounts_for_every_key(case, tmp_path):
    kind = KIND.get(case.name, case.name)
    for to in ('mmpretrain', 'timm', kind):
        record = convert_file(Origin(case.path, kind), tmp_path / 'a.pth', to)
        kept = read_checkpoint(tmp_path / 'a.pth')
        assert len(kept) + len(record['dropped']) >= len(read_checkpoint(case.path))
        assert all(record['dropped'].values())


def test_convert_to_timm_loads_strictly_into_its_models_and_gives_the_features(case, tmp_path):
    import timm
    from timm.models.beit import Beit
    convert_file(Origin(case.path), tmp_path / 'timm.pth', 'timm')
    if 'config_json' in case.data:
        arch = json_arch(case.data)['arch']
        patch, size = json_arch(case.data)['patch_size'], json_arch(case.data)['img_size']
    else:
        arch, patch, size = vit_arch(case.data), int(case.data['cfg_patch']), int(case.data['cfg_img'])
    sizes = {'img_size': size, 'patch_size': patch, 'embed_dim': arch['embed_dims'], 'depth': arch['num_layers'],
             'num_heads': arch['num_heads'], 'num_classes': 0, 'global_pool': 'token',
             'mlp_ratio': arch['feedforward_channels'] / arch['embed_dims']}
    if case.name.startswith('conmim'):
        model = Beit(**sizes, init_values=0.1, use_abs_pos_emb=False, use_shared_rel_pos_bias=True)
    else:
        model = timm.create_model('vit_base_patch16_224', **sizes)
    model.load_state_dict(torch.load(tmp_path / 'timm.pth', weights_only=True), strict=True)
    model.eval()
    case.check(model.forward_features)


def test_convert_spreads_conmims_shared_table_over_the_blocks_of_fine_tuning_backbones(golden):
    case = Case(golden, 'conmim_teacher')
    expected = case.data['teacher/tokens_last_block']
    for kind in ('mm_graft.ConMIMViT', 'BEiTViT'):
        options = dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False, final_norm=False, out_type='raw',
                       layer_scale_init_value=0.1, with_mask_token=False)
        if kind == 'BEiTViT':
            options.pop('with_mask_token')
        encoder = MODELS.build(dict(type=kind, **json_arch(case.data), **options))
        coverage = load_backbone(encoder, case.path)
        assert 'mask_token' in coverage.dropped
        encoder.eval()
        with torch.no_grad():
            tokens = encoder(to_input(case.data['images']).float())[-1].numpy()
        np.testing.assert_allclose(tokens, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(('name', 'network'), [('localmim', ''), ('conmim', 'student/')])
def test_convert_gives_the_authors_mean_of_the_patches(golden, name, network):
    case = Case(golden, name)
    tuning = {} if name == 'localmim' else dict(use_rel_pos_bias=True, use_shared_rel_pos_bias=False)
    encoder = MODELS.build(dict(
        type='VisionTransformer' if name == 'localmim' else 'mm_graft.ConMIMViT', **json_arch(case.data), **tuning,
        final_norm=False, out_type='avg_featmap'))
    coverage = load_backbone(encoder, case.path)
    assert set(coverage.fresh) == {'ln2.weight', 'ln2.bias'}
    encoder.eval()
    with torch.no_grad():
        normed = encoder(to_input(case.data['images']).float())[-1].numpy()
        encoder.ln2 = torch.nn.Identity()
        mean = encoder(to_input(case.data['images']).float())[-1].numpy()
    for actual, key in ((mean, 'patch_mean'), (normed, 'patch_mean_fc_norm_default')):
        expected = case.data[network + key]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_convert_publishes_the_encoder_alone_under_its_hash(case, tmp_path):
    import hashlib
    path = publish_file(Origin(case.path), tmp_path, case.name)
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(path.stem.rsplit('-', 1)[1])
    assert all(name.startswith('backbone.') for name in read_checkpoint(path))
    encoder = case.encoder()
    load_backbone(encoder, path)
    case.check(run(encoder))
    assert publish_file(Origin(case.path), tmp_path, case.name) == path


@pytest.mark.parametrize(('name', 'to'), [
    ('conmim', 'mae'), ('conmim', 'mocov3'), ('conmim', 'localmim'), ('mae', 'conmim'), ('mae', 'localmim')])
def test_convert_refuses_what_the_target_cannot_hold_and_leaves_no_file(golden, tmp_path, name, to):
    with pytest.raises(CheckpointError, match='encoder'):
        convert_file(Origin(source_of(golden, name)), tmp_path / 'a.pth', to)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('name', 'kind'), [
    (name, kind) for name in FILES for kind in ('mae', 'mocov3', 'conmim', 'localmim', 'mmpretrain')
    if kind != KIND.get(name, name) and (name, kind) != ('mocov3', 'mae')])  # each of its encoders is one of MAE's
def test_convert_refuses_a_wrong_layout_and_leaves_no_file(golden, tmp_path, name, kind):
    with pytest.raises(CheckpointError):
        convert_file(Origin(source_of(golden, name), kind), tmp_path / 'a.pth', 'mmpretrain')
    assert not list(tmp_path.iterdir())
