"""Where an encoder stands in a file, and what of it stands in no tensor: grid, heads, activation."""

import argparse
import json
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mm_graft.checkpoints import CheckpointError, load_backbone
from mm_graft.registry import import_scope
from tests.checkpoints.test_resize import place
from tests.tiny import ARCH, VIT, mae_file, vit_state


@pytest.fixture
def backbone():
    return MODELS.build(dict(type='mm_graft.GraftViT', **VIT))


def save(state, path):
    torch.save(state, path)
    return str(path)


def equal(module, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def wide(**sizes):
    return MODELS.build(dict(type='mm_graft.GraftViT', arch=ARCH, img_size=(32, 128), patch_size=8, **sizes))


def test_a_table_of_as_many_patches_of_another_grid_is_resized_or_refused(tmp_path):
    state = vit_state(tokens=65) | {'pos_embed': place(8, 8, 16)}
    path, model = save({'model': state}, tmp_path / 'square.pth'), wide()
    with pytest.raises(CheckpointError, match='are of 8 × 8 patches, which is assumed, the backbone has 4'):
        load_backbone(model, path)
    load_backbone(model, path, resize=True)
    assert (model.pos_embed - place(4, 16, 16))[:, 1:].abs().max() < 0.05
    coverage = load_backbone(model, path, grid=(4, 16))
    assert model.pos_embed.equal(state['pos_embed'])
    assert coverage.assumed == ('heads 2', 'activation gelu')


def test_a_run_of_ours_says_its_grid(tmp_path):
    source = wide()
    cfg = Config(dict(model=dict(backbone=dict(type='mm_graft.GraftViT', arch=ARCH, img_size=(32, 128), patch_size=8))))
    state = {f'backbone.{name}': tensor for name, tensor in source.state_dict().items()}
    path = save({'state_dict': state, 'meta': {'cfg': cfg.pretty_text}}, tmp_path / 'run.pth')
    assert load_backbone(wide(), path).assumed == ()
    square = MODELS.build(dict(type='mm_graft.GraftViT', arch=ARCH, img_size=64, patch_size=8))
    with pytest.raises(CheckpointError, match=r'are of 4 × 16 patches, .*the backbone has 8 × 8'):
        load_backbone(square, path)


def test_where_no_square_fits_the_grid_is_assumed_and_said_or_asked_for(tmp_path):
    path = save({'model': vit_state(tokens=33)}, tmp_path / 'a.pth')
    model = MODELS.build(dict(type='mm_graft.GraftViT', arch=ARCH, img_size=(32, 64), patch_size=8))
    assert 'grid 4 × 8' in load_backbone(model, path).assumed
    other = MODELS.build(dict(type='mm_graft.GraftViT', arch=ARCH, img_size=64, patch_size=8))
    with pytest.raises(CheckpointError, match=r'of no square grid of patches; say of which one by grid='):
        load_backbone(other, path, resize=True)
    load_backbone(other, path, resize=True, grid=(4, 8))


def small_vit(heads):
    return MODELS.build(dict(type='mm_graft.GraftViT', img_size=32, patch_size=16, arch=dict(
        embed_dims=384, num_layers=1, num_heads=heads, feedforward_channels=32)))


def test_heads_that_the_file_states_must_be_the_backbones(tmp_path):
    state = vit_state(384, 1, 16, 5)
    moco = {f'module.base_encoder.{name}': tensor for name, tensor in state.items()}
    path = save({'arch': 'vit_small', 'state_dict': moco}, tmp_path / 'moco.pth.tar')
    with pytest.raises(CheckpointError, match=r"it has heads 12 by arch='vit_small', the backbone has 6; build the "
                                              r'backbone with heads 12 \(arch=dict'):
        load_backbone(small_vit(6), path)
    assert load_backbone(small_vit(12), path).assumed == ('activation gelu', 'grid 2 × 2')
    unsaid = save({'model': state}, tmp_path / 'unsaid.pth')
    assert 'heads 6, activation gelu, grid 2 × 2' in str(load_backbone(small_vit(6), unsaid))


def test_another_activation_that_is_stated_is_refused(tmp_path, backbone):
    (tmp_path / 'config.json').write_text(json.dumps({'num_attention_heads': 2, 'hidden_act': 'quick_gelu'}))
    with pytest.raises(CheckpointError, match=r'it has activation quick_gelu by .*config\.json, the backbone has gelu'):
        load_backbone(backbone, mae_file(tmp_path / 'a.pth'))


@pytest.mark.parametrize('prefix', ['module.', 'module._orig_mod.', 'model.', 'visual.trunk.', 'teacher.'])
@pytest.mark.parametrize('container', ['state_dict', 'model_state_dict', 'student', 'teacher'])
def test_prefixes_and_containers_do_not_matter(backbone, tmp_path, prefix, container):
    state = vit_state()
    names = {f'{prefix}{name}': tensor for name, tensor in state.items()} | {'logit_scale': torch.tensor(1.)}
    coverage = load_backbone(backbone, save({container: names, 'step': 3}, tmp_path / 'a.pth'))
    assert backbone.cls_token.equal(state['cls_token'])
    assert coverage.dropped['logit_scale'] == f'not below {prefix.replace("_orig_mod.", "")}'


def test_averaged_weights_are_mentioned_and_taken_by_the_branch(backbone, tmp_path):
    path = save({'state_dict': vit_state(), 'state_dict_ema': vit_state(seed=2)}, tmp_path / 'timm.pth.tar')
    assert "averaged weights, which branch='momentum' takes" in str(load_backbone(backbone, path))
    assert backbone.cls_token.equal(vit_state()['cls_token'])
    load_backbone(backbone, path, branch='momentum')
    assert backbone.cls_token.equal(vit_state(seed=2)['cls_token'])


def test_of_student_and_teacher_in_one_state_dict_the_branch_decides(backbone, tmp_path):
    state = {f'student.backbone.{name}': tensor for name, tensor in vit_state().items()}
    state |= {f'teacher.backbone.{name}': tensor for name, tensor in vit_state(seed=2).items()}
    path = save({'model': state}, tmp_path / 'dino.pth')
    for branch, seed in (('base', 1), ('momentum', 2)):
        load_backbone(backbone, path, branch=branch)
        assert backbone.cls_token.equal(vit_state(seed=seed)['cls_token'])
    load_backbone(backbone, path, prefix='teacher.backbone.')
    assert backbone.cls_token.equal(vit_state(seed=2)['cls_token'])


TIMM = ['vit_small_patch14_reg4_dinov2', 'vit_base_patch16_siglip_224', 'beitv2_base_patch16_224',
        'deit3_small_patch16_224', 'eva02_tiny_patch14_224']


@pytest.mark.parametrize('name', TIMM)
def test_a_file_of_timm_goes_into_that_model_of_timm_as_it_is(tmp_path, name):
    sizes = dict(depth=1, num_classes=0, **({} if 'beit' in name or 'eva' in name else dict(img_size=56)))
    source = timm.create_model(name, **sizes)
    for prefix in ('', 'model.'):
        state = {f'{prefix}{key}': tensor for key, tensor in source.state_dict().items()} | {'head.bias': torch.ones(3)}
        path = save({'state_dict': state}, tmp_path / 'timm.pth')
        bare = timm.create_model(name, **sizes)
        coverage = load_backbone(bare, path)
        assert equal(bare, source.state_dict())
        assert coverage.layout == "the backbone's own names"
        assert coverage.dropped == {'head.bias': 'not part of this backbone'}


def test_a_tensor_too_many_is_not_passed_over_for_a_timm_model(tmp_path):
    source = timm.create_model('vit_tiny_patch16_224', depth=1, num_classes=0, img_size=32)
    deeper = timm.create_model('vit_tiny_patch16_224', depth=2, num_classes=0, img_size=32).state_dict()
    with pytest.raises(CheckpointError, match=r"left over \['blocks\.1"):
        load_backbone(source, save(deeper, tmp_path / 'a.pth'))
    scaled = {**source.state_dict(), 'blocks.0.ls1.gamma': torch.ones(192)}
    with pytest.raises(CheckpointError, match=r"left over \['blocks\.0\.ls1\.gamma"):
        load_backbone(source, save(scaled, tmp_path / 'b.pth'))


def test_any_other_backbone_takes_a_file_of_its_own_names(tmp_path):
    settings = dict(type='ResNet', depth=18)
    source, target = MODELS.build(settings), MODELS.build(settings)
    state = {f'backbone.{name}': tensor for name, tensor in source.state_dict().items()}
    load_backbone(target, save({'state_dict': state | {'head.fc.weight': torch.ones(2)}}, tmp_path / 'a.pth'))
    assert equal(target, source.state_dict())
    del state['backbone.layer1.0.conv1.weight']
    with pytest.raises(CheckpointError, match='no known layout'):
        load_backbone(target, save({'state_dict': state}, tmp_path / 'b.pth'))


def test_the_files_of_trainings_of_the_authors_are_read(backbone, tmp_path):
    args = argparse.Namespace(lr=1.0, output_dir=Path('x'), num_heads=2)
    content = {'model': vit_state(), 'args': args, 'epoch': 1, 'scaler': {'scale': 1.0}, 'optimizer': {'state': {}}}
    coverage = load_backbone(backbone, save(content, tmp_path / 'checkpoint-1.pth'))
    assert backbone.cls_token.equal(vit_state()['cls_token'])
    assert coverage.assumed == ('activation gelu', 'grid 4 × 4')


@pytest.mark.parametrize('settings', [
    dict(type='mmseg.BEiT', img_size=(32, 32), patch_size=8, embed_dims=16, num_layers=2, num_heads=2, mlp_ratio=2),
    dict(type='mmseg.VisionTransformer', img_size=(32, 32), patch_size=8, embed_dims=16, num_layers=2, num_heads=2),
    dict(type='VisionTransformer', **VIT, final_norm=False)])
def test_a_run_of_a_backbone_without_final_norm_or_of_mmseg_goes_into_the_same_backbone(tmp_path, settings):
    """What no layout holds, its own names do; and its config says its heads."""
    import_scope('mmseg')
    source, other = MODELS.build(settings), MODELS.build(settings)
    state = {f'backbone.{name}': tensor for name, tensor in source.state_dict().items()}
    cfg = Config(dict(model=dict(type='EncoderDecoder', backbone=settings))).pretty_text
    torch.save({'state_dict': state | {'decode_head.conv.weight': torch.ones(1)}, 'meta': {'cfg': cfg}},
               tmp_path / 'a.pth')
    coverage = load_backbone(other, tmp_path / 'a.pth')
    assert equal(other, source.state_dict())
    assert (coverage.assumed, coverage.differs) == ((), ())
