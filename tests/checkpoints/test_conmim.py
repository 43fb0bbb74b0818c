import pytest
import torch

from mm_graft.checkpoints import convert_backbone
from mm_graft.checkpoints.conversion import read_model

OFFICIAL = {
    'cls_token': 'cls_token', 'mask_token': 'mask_token', 'patch_embed.proj.bias': 'patch_embed.projection.bias',
    'rel_pos_bias.relative_position_bias_table': 'rel_pos_bias.relative_position_bias_table',
    'blocks.3.gamma_1': 'layers.3.gamma_1', 'blocks.3.norm1.weight': 'layers.3.ln1.weight',
    'blocks.3.attn.q_bias': 'layers.3.attn.q_bias', 'blocks.3.attn.qkv.weight': 'layers.3.attn.qkv.weight',
    'blocks.3.mlp.fc1.weight': 'layers.3.ffn.layers.0.0.weight', 'norm.bias': 'ln1.bias',
    'blocks.3.attn.relative_position_bias_table': 'layers.3.attn.rel_pos_bias.relative_position_bias_table',
    'fc_norm.weight': 'ln2.weight',
}
ELSEWHERE = ('lm_head.weight', 'head.bias', 'projectors.0.weight', 'rel_pos_bias.relative_position_index',
             'blocks.3.attn.relative_position_index')


def test_every_tensor_is_renamed_or_dropped_for_a_reason():
    converted = convert_backbone({name: torch.zeros(1) for name in (*OFFICIAL, *ELSEWHERE)}, 'conmim')
    assert set(converted.backbone) == set(OFFICIAL.values())
    assert set(converted.dropped) == set(ELSEWHERE)


def test_values_stay_with_their_names():
    values = {name: torch.tensor(float(i)) for i, name in enumerate(OFFICIAL)}
    converted = convert_backbone(values, 'conmim').backbone
    assert all(converted[new] is values[old] for old, new in OFFICIAL.items())


def test_the_projector_has_the_hosts_names():
    state = {f'projectors.{i}.weight': torch.tensor(float(i)) for i in (0, 1, 3, 4, 6)}
    state['projectors.7.running_mean'] = torch.zeros(2)
    projector = read_model({**state, **dict.fromkeys(OFFICIAL, torch.zeros(1))}, 'conmim').backbone
    assert {name for name in projector if not name.startswith('backbone.')} == {
                              'neck.fc0.weight', 'neck.bn0.weight', 'neck.fc1.weight',
                              'neck.bn1.weight', 'neck.fc2.weight', 'neck.bn2.running_mean'}
    assert projector['neck.fc1.weight'] == 3


def test_unknown_tensors_and_a_second_branch_are_refused():
    with pytest.raises(ValueError, match=r'decoder\.weight'):
        convert_backbone(dict.fromkeys([*OFFICIAL, 'decoder.weight'], torch.zeros(1)), 'conmim')
    with pytest.raises(ValueError, match='checkpoint_copy'):
        convert_backbone(dict.fromkeys(OFFICIAL, torch.zeros(1)), 'conmim', branch='momentum')
