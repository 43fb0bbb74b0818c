import pytest
import timm

from mm_graft.checkpoints.conversion import convert_backbone
from mm_graft.checkpoints.detection import detect_layout
from mm_graft.checkpoints.unsupported import known_as

TIMM = {
    'eva02_tiny_patch14_224': 'EVA-02', 'eva02_base_patch14_224': 'EVA-02', 'eva_giant_patch14_224': 'EVA or EVA-02',
    'vit_base_patch16_rope_224': 'rotary positions', 'vit_base_patch16_rope_ape_224': 'rotary positions',
    'vit_pe_core_tiny_patch16_384': 'Perception Encoder', 'vit_pe_lang_large_patch14_448': 'Perception Encoder',
    'cait_xxs24_224': 'CaiT', 'swin_tiny_patch4_window7_224': 'a Swin',
    'convnext_atto': 'a convolutional network', 'resnet18': 'a ResNet', 'hiera_tiny_224': 'Hiera',
    'vit_tiny_r_s16_p8_224': 'a hybrid', 'aimv2_large_patch14_224': 'AIMv2|EVA-02'}
SMALL = dict(embed_dim=48, depth=1, num_heads=2)


@pytest.mark.parametrize('name', TIMM)
def test_what_people_have_is_called_by_its_name_with_a_way_out(name):
    vit = name.startswith(('eva', 'vit', 'aim', 'cait')) and '_r_' not in name
    state = timm.create_model(name, num_classes=0, **(SMALL if vit else {})).state_dict()
    with pytest.raises(ValueError, match=f'belong to no known layout; it is .*({TIMM[name]}).*: (use|choose|build) '):
        detect_layout(state)


@pytest.mark.parametrize(('names', 'what'), [
    (['model.embed_tokens.weight', 'model.layers.0.self_attn.q_proj.weight'], 'a language model'),
    (['base_model.model.encoder.layer.0.attention.attention.query.lora_A.weight'], 'an adapter'),
    (['swin.encoder.layers.0.blocks.0.attention.self.relative_position_bias_table'], 'a Swin'),
    (['convnext.encoder.stages.0.layers.0.dwconv.weight'], 'a convolutional network'),
    (['vit.embeddings.patch_embeddings.backbone.bit.embedder.convolution.weight'], 'a hybrid'),
    (['blocks.0.attn.qkv.weight_orig', 'blocks.0.attn.qkv.weight_mask'], 'a model whose weights are computed'),
    (['blocks.0.attn.qkv.parametrizations.weight.original'], 'a model whose weights are computed'),
    (['visual.layer1.0.conv1.weight'], 'a ResNet')])
def test_files_of_other_libraries_too(names, what):
    assert known_as(names).startswith(f'it is {what}')


def test_a_norm_before_the_blocks_and_none_behind_is_not_taken_for_a_clip():
    state = timm.create_model('vit_pe_spatial_tiny_patch16_512', num_classes=0, **SMALL).state_dict()
    with pytest.raises(ValueError, match=r'Perception Encoders have, whose rotary positions .*: build it as'):
        convert_backbone(state)


def test_of_what_is_not_known_nothing_is_said():
    assert known_as(['blocks.0.norm1.weight', 'a']) == ''
    assert known_as(['model.embed_tokens.weight']) == ''
