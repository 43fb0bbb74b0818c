"""What works on the host's ViTs works on those of timm: registers, RoPE with and without SwiGLU, no class token."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch._dynamo import reset

from mm_graft.checkpoints.onnx_export import export_onnx, largest_difference
from mm_graft.depth import depth_map
from mm_graft.encoders import Encoder
from mm_graft.engine.freezing.frozen_prefix import freeze_parameters, prefix_modules, prefix_parameters
from mm_graft.engine.freezing.saved_bytes import SavedBytes
from mm_graft.engine.hooks.weight_anchor import WeightAnchor
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook
from mm_graft.engine.speed.compile_blocks_hook import compile_blocks
from mm_graft.evaluation.features import encode
from mm_graft.pretrained import PretrainedEncoder
from tests.engine.freezing.freezeout_runs import make_runner
from tests.tiny import contrastive

SMALL = dict(depth=4, embed_dim=16, num_heads=2, img_size=32, patch_size=8)
FAMILIES = ['vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3', 'eva02_tiny_patch14_224',
            'vit_base_patch16_siglip_224']
family = pytest.mark.parametrize('name', FAMILIES)


def settings(name, **options):
    out_type = 'pooled' if 'siglip' in name else 'cls_token'
    return dict(type='mm_graft.TimmViT', model_name=name, out_type=out_type, **SMALL) | options


def build(name, **options):
    torch.manual_seed(1)
    backbone = MODELS.build(settings(name, **options))
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter.data, std=0.2)
    return backbone


def moco(name):
    return dict(type='mm_graft.GraftedMoCoV3', momentum=0.9, backbone=settings(name), **contrastive())


def gradients(backbone, images):
    backbone.zero_grad()
    backbone(images)[-1].square().sum().backward()
    return {name: parameter.grad for name, parameter in backbone.named_parameters() if parameter.grad is not None}


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32)


@family
def test_stages_have_their_rates_and_a_frozen_one_leaves_autograd(name):
    model = MODELS.build(moco(name))
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mm_graft.GraftOptimWrapperConstructor',
        paramwise_cfg=dict(stage_lr_mult=[0, 0.5]), optimizer=dict(type='AdamW', lr=2.0))).optimizer
    rates = {name: group['lr'] for group in optimizer.param_groups for name in group['param_names']}
    assert set(rates.values()) == {1.0}
    assert 'backbone.timm_model.blocks.2.norm1.weight' in rates
    trained = {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}
    assert not {name for name in trained if depth_map(model.backbone).depths[name] <= 2}


@family
def test_a_frozen_prefix_keeps_nothing_for_the_way_back_and_changes_no_gradient_above(name, images):
    plain = gradients(build(name).eval(), images)
    backbone = build(name).eval()
    saved = SavedBytes(backbone)
    with saved():
        backbone(images)
    whole = saved.total
    freeze_parameters(prefix_parameters(backbone, depth_map(backbone), 3), torch.optim.SGD(backbone.parameters(), 0.1))
    saved = SavedBytes(backbone)
    with saved():
        backbone(images)
    assert saved.total < 0.5 * whole
    above = gradients(backbone, images)
    assert above.keys() == {key for key in plain if depth_map(backbone).depths[key] > 3}
    for key, gradient in above.items():
        torch.testing.assert_close(gradient, plain[key])


@family
def test_what_is_frozen_is_named_as_the_stem_and_whole_blocks(name):
    backbone = build(name)
    modules = prefix_modules(backbone, depth_map(backbone), 2)
    assert {id(backbone.timm_model.patch_embed), *(id(block) for block in backbone.timm_model.blocks[:2])} <= {
        id(module) for module in modules}
    assert id(backbone.timm_model.blocks[2]) not in {id(module) for module in modules}


@pytest.mark.parametrize('name', FAMILIES[:3])
def test_progressive_freezing_stops_lower_blocks_first_in_a_run(name):
    """FreezeOut over GraftedMoCoV3; the hook itself raises where a block that trains gets no gradient."""
    runner = make_runner(moco(name), data={'views': 2})
    before = {key: tensor.clone() for key, tensor in runner.model.state_dict().items()}
    runner.train()
    after = runner.model.state_dict()
    frozen = [not parameter.requires_grad for parameter in (
        block.norm1.weight for block in runner.model.backbone.timm_model.blocks)]
    assert frozen == sorted(frozen, reverse=True)
    assert frozen[0]
    moved = {key for key in after if key.startswith('backbone.') and not torch.equal(after[key], before[key])}
    assert 'backbone.timm_model.blocks.3.norm1.weight' in moved


@family
def test_an_anchor_pulls_every_block_to_its_file(name, tmp_path):
    model = MODELS.build(moco(name))
    torch.save(model.backbone.timm_model.state_dict(), tmp_path / 'timm.pth')
    anchor = WeightAnchor(str(tmp_path / 'timm.pth'), weight=1.0, max_depth=2, p=2)
    anchor.before_train(SimpleNamespace(model=model, iter=0))
    assert anchor.loss() == 0
    blocks = model.backbone.timm_model.blocks
    with torch.no_grad():
        blocks[1].norm1.weight += 0.5
        blocks[2].norm1.weight += 0.5
    torch.testing.assert_close(anchor.loss(), torch.tensor(16 * 0.25))  # the second block's, not the third's
    anchor.term.remove()


@family
@pytest.mark.parametrize('change', [CheckpointBlocksHook().apply, lambda model: compile_blocks(model, backend='eager')],
                         ids=['recomputed', 'compiled'])
def test_recomputed_and_compiled_blocks_have_the_same_gradients(name, change, images):
    reset()
    plain = gradients(build(name).eval(), images)
    backbone = build(name).eval()
    assert change(backbone) == 4
    changed = gradients(backbone, images)
    assert changed.keys() == plain.keys()
    for key, gradient in changed.items():
        torch.testing.assert_close(gradient, plain[key], rtol=1e-4, atol=1e-5)


@family
def test_frozen_features_are_class_token_and_mean_of_the_patches(name, images):
    backbone = build(name, out_type='raw').eval()
    with torch.no_grad():
        tokens = backbone(images)[-1]
        prefix = backbone.num_extra_tokens
        torch.testing.assert_close(encode(backbone, images, 'avg'), tokens[:, prefix:].mean(1))
        if prefix:
            torch.testing.assert_close(encode(backbone, images, 'cls'), tokens[:, 0])
        else:
            with pytest.raises(ValueError, match="has no class token here; use pool='avg'"):
                encode(backbone, images, 'cls')


@family
def test_tokens_of_an_encoder_in_python_and_of_each_of_its_blocks(name):
    backbone = build(name).eval()
    encoder = PretrainedEncoder(Encoder(backbone), 'a file')
    images = torch.rand(2, 3, 32, 32)
    tokens = encoder(images)
    with torch.no_grad():
        expected = backbone.timm_model.forward_features(255 * images)
    torch.testing.assert_close(tokens.patch_tokens, expected[:, -16:])
    assert (tokens.class_token is None) == ('siglip' in name)
    assert encoder(images, block=2).patch_tokens.shape == (2, 16, 16)


@family
def test_upernet_reads_four_blocks_as_maps(name, images):
    head = dict(type='mmseg.UPerHead', in_channels=[16] * 4, in_index=[0, 1, 2, 3], pool_scales=(1, 2), channels=8,
                num_classes=3, norm_cfg=dict(type='BN'), loss_decode=dict(type='mmseg.CrossEntropyLoss'))
    model = MODELS.build(dict(
        type='mmseg.EncoderDecoder', decode_head=head, test_cfg=dict(mode='whole'),
        neck=dict(type='mmseg.Feature2Pyramid', embed_dim=16, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
        backbone=settings(name, out_type='featmap', out_indices=[0, 1, 2, 3], final_norm=False)))
    logits = model.eval()._forward(images)
    assert logits.shape == (2, 3, 16, 16)
    logits.square().sum().backward()
    assert all(block.norm1.weight.grad is not None for block in model.backbone.timm_model.blocks)


@pytest.mark.skipif(not all(map(importlib.util.find_spec, ('onnx', 'onnxruntime', 'onnxscript'))),
                    reason='needs requirements/export.txt')
@pytest.mark.parametrize('name', FAMILIES[::2])
def test_the_exported_encoder_computes_the_same(name, tmp_path):
    backbone = build(name).eval()
    export_onnx(backbone, tmp_path / 'a.onnx', (32, 32))
    assert largest_difference(backbone, tmp_path / 'a.onnx', (32, 32)) < 1e-4
