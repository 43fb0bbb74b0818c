import pytest
import timm
import torch
from mmengine.registry import MODELS
from torch import nn

from mm_graft.depth import (
    block_counts,
    blocks_of,
    depth_in_backbone,
    depth_map,
    encoders_of,
    find_backbone,
    stage_of_depth,
    unwrap,
)
from tests.tiny import ARCH, classifier, grafted_mocov3

VIT = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
SWIN_ARCH = {'embed_dims': 8, 'depths': [1, 2, 1, 1], 'num_heads': [1, 2, 4, 8]}
HOST_BACKBONES = {
    'mmpretrain ViT': VIT,
    'mmpretrain MAE': VIT | dict(type='MAEViT'),
    'mmpretrain BEiT': VIT | dict(type='BEiTViT'),
    'mmpretrain Swin': dict(type='SwinTransformer', arch=SWIN_ARCH, img_size=64, patch_size=4, window_size=4),
}


def last_of(config):
    return 1 + (4 if 'depths' not in config['arch'] else sum(config['arch']['depths']))


@pytest.mark.parametrize('config', HOST_BACKBONES.values(), ids=HOST_BACKBONES)
def test_depths_are_the_hosts_where_the_host_has_an_answer(config):
    backbone = MODELS.build(config)
    depths = depth_map(backbone)
    assert depths.prefix == ''
    assert depths.last == last_of(config)
    for name, depth in depths.depths.items():
        if name != 'rel_pos_bias.relative_position_bias_table':
            assert depth == backbone.get_layer_depth(name, '')[0], name


@pytest.mark.parametrize('config', HOST_BACKBONES.values(), ids=HOST_BACKBONES)
def test_every_parameter_has_a_depth_in_the_models_order(config):
    backbone = MODELS.build(config)
    assert list(depth_map(backbone).depths) == [name for name, _ in backbone.named_parameters()]
    assert set(depth_map(backbone).depths.values()) == set(range(last_of(config) + 1))


def test_absolute_positions_of_a_swin_belong_to_the_stem():
    swin = MODELS.build(HOST_BACKBONES['mmpretrain Swin'] | dict(use_abs_pos_embed=True))
    assert depth_map(swin).depths['absolute_pos_embed'] == 0


def test_a_classifier_a_momentum_copy_and_a_head_follow_the_backbone():
    depths = depth_map(MODELS.build(grafted_mocov3())).depths
    for name, depth in depths.items():
        if name.startswith('momentum_encoder.module.0.'):
            assert depth == depths['backbone.' + name.removeprefix('momentum_encoder.module.0.')]
        elif not name.startswith('backbone.'):
            assert depth == 5, name
    assert depth_map(MODELS.build(classifier())).depths['head.layers.head.weight'] == 5


def test_timm_has_the_depths_of_mmpretrain_bare_or_wrapped():
    size = dict(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=3)
    bare = depth_map(timm.create_model('vit_tiny_patch16_224', **size)).depths
    assert bare['cls_token'] == bare['pos_embed'] == bare['patch_embed.proj.weight'] == 0
    assert [bare[f'blocks.{i}.mlp.fc1.weight'] for i in range(4)] == [1, 2, 3, 4]
    assert bare['norm.weight'] == bare['head.bias'] == 5
    wrapped = depth_map(MODELS.build(dict(
        type='ImageClassifier', head=None,
        backbone=dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224', **size))))
    assert wrapped.prefix == 'backbone.timm_model.'
    assert {name: depth for name, depth in bare.items() if not name.startswith('head.')} == {
        name.removeprefix(wrapped.prefix): depth for name, depth in wrapped.depths.items()}


def test_an_mmseg_segmentor_and_its_heads_are_understood():
    segmentor = MODELS.build(dict(
        type='mmseg.EncoderDecoder',
        backbone=dict(type='mmseg.VisionTransformer', img_size=32, patch_size=8, embed_dims=16, num_layers=4,
                      num_heads=2, mlp_ratio=2, final_norm=True),
        decode_head=dict(type='mmseg.FCNHead', in_channels=16, channels=8, num_convs=1, num_classes=2),
        train_cfg=dict(), test_cfg=dict(mode='whole'), _scope_='mmseg'))
    depths = depth_map(segmentor)
    assert (depths.prefix, depths.num_blocks) == ('backbone.', 4)
    assert depths.depths['backbone.patch_embed.projection.weight'] == 0
    assert depths.depths['backbone.layers.2.attn.attn.in_proj_weight'] == 3
    assert depths.depths['backbone.ln1.weight'] == depths.depths['decode_head.conv_seg.weight'] == 5


def test_patch_merging_belongs_to_the_block_before_it():
    assert depth_in_backbone('stages.0.downsample.norm.weight', [2, 2, 6]) == 2
    assert depth_in_backbone('stages.1.blocks.0.norm1.weight', [2, 2, 6]) == 3
    assert depth_in_backbone('stages.2.blocks.5.norm1.weight', [2, 2, 6]) == 10
    assert depth_in_backbone('norm3.weight', [2, 2, 6]) == 11


def test_a_number_is_read_whole():
    assert depth_in_backbone('layers.1.ln1.weight', [12]) == 2
    assert depth_in_backbone('layers.11.ln1.weight', [12]) == 12


def test_stages_split_the_blocks_evenly_with_stem_first_and_rest_last():
    assert [stage_of_depth(depth, 12, 3) for depth in range(14)] == [1] * 5 + [2] * 4 + [3] * 5
    assert [stage_of_depth(depth, 4, 1) for depth in range(6)] == [1] * 6
    assert [stage_of_depth(depth, 4, 4) for depth in range(6)] == [1, 1, 2, 3, 4, 4]


def test_the_stage_of_a_name_is_that_of_its_depth():
    depths = depth_map(MODELS.build(VIT))
    assert depths.stage('cls_token', 2) == depths.stage('layers.1.ln1.weight', 2) == 1
    assert depths.stage('layers.2.ln1.weight', 2) == depths.stage('ln1.weight', 2) == 2
    assert depths.stage('layers.2.ln1.weight', 4) == 3


@pytest.mark.parametrize('stages', [5, 0, -1, 13])
def test_uneven_stages_are_refused_with_what_would_do(stages):
    with pytest.raises(ValueError, match=rf'{stages} stages do not divide 12 blocks evenly.*\[1, 2, 3, 4, 6, 12\]'):
        stage_of_depth(1, 12, stages)


def test_a_backbone_without_blocks_is_refused():
    with pytest.raises(ValueError, match='Linear has no known list of transformer blocks'):
        block_counts(nn.Linear(2, 2))
    half = nn.Module()
    half.stages = nn.ModuleList([nn.Module(), nn.Linear(2, 2)])
    half.stages[0].blocks = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ValueError, match='Module has no known list'):
        block_counts(half)
    with pytest.raises(ValueError, match='ResNet'):
        depth_map(MODELS.build(dict(type='ResNet', depth=18)))


def test_blocks_are_found_in_order_through_stages_wrappers_and_timm():
    model = MODELS.build(classifier())
    assert blocks_of(model) == blocks_of(model.backbone) == list(model.backbone.layers)
    swin = MODELS.build(HOST_BACKBONES['mmpretrain Swin'])
    assert block_counts(swin) == [1, 2, 1, 1]
    assert blocks_of(swin) == [block for stage in swin.stages for block in stage.blocks]
    timm_vit = MODELS.build(dict(type='TIMMBackbone', model_name='vit_tiny_patch16_224', depth=3))
    assert blocks_of(timm_vit) == list(timm_vit.timm_model.blocks)
    with pytest.raises(ValueError, match='no known list'):
        blocks_of(nn.Linear(2, 2))


def test_a_momentum_encoder_is_an_encoder():
    model = MODELS.build(grafted_mocov3())
    assert encoders_of(model) == [model.backbone, model.momentum_encoder.module[0]]
    assert encoders_of(MODELS.build(VIT)) != []
    assert len(encoders_of(MODELS.build(classifier()))) == 1


def test_an_unknown_parameter_is_an_error_that_names_it():
    backbone = MODELS.build(VIT)
    backbone.adapter = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"'adapter.weight'.*depth_overrides"):
        depth_map(backbone)


def test_a_model_may_place_parameters_of_its_own():
    backbone = MODELS.build(VIT)
    backbone.adapter = nn.Linear(2, 2)
    backbone.depth_overrides = lambda: {'adapter.': 3}
    depths = depth_map(backbone).depths
    assert depths['adapter.weight'] == depths['adapter.bias'] == 3
    assert depths['layers.0.ln1.weight'] == 1


def test_a_backbone_may_place_its_own_parameters_in_any_algorithm():
    taps = dict(type='mm_graft.VisiblePatchViT', arch=ARCH, img_size=32, patch_size=8, taps=(1, 4))
    for config, prefixes in ((classifier(), ['']), (grafted_mocov3(), ['', 'momentum_encoder.module.0.'])):
        depths = depth_map(MODELS.build(config | dict(backbone=taps))).depths
        for prefix in ('backbone.', *prefixes[1:]):
            assert [depths[f'{prefix}tap_norms.{k}.weight'] for k in (0, 1)] == [1, 4]
            assert depths[f'{prefix}layers.2.ln1.weight'] == 3


def test_a_wrapper_changes_no_depth():
    from mmengine.model import is_model_wrapper
    from mmengine.registry import MODEL_WRAPPERS

    class Wrapper(nn.Module):

        def __init__(self, module):
            super().__init__()
            self.module = module

    MODEL_WRAPPERS.register_module(name='WrapperOfTestDepth', module=Wrapper, force=True)
    model = MODELS.build(classifier())
    assert is_model_wrapper(Wrapper(model))
    assert unwrap(Wrapper(model)) is model is unwrap(model)
    assert depth_map(Wrapper(model)) == depth_map(model)
    assert find_backbone(Wrapper(model)) == ('backbone.', model.backbone)


def test_depths_need_no_memory_for_weights():
    with torch.device('meta'):
        backbone = MODELS.build(VIT)
    assert depth_map(backbone).last == 5
