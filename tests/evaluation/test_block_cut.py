import pytest
import torch
from torch import nn

from mm_graft.encoders import build_encoder
from mm_graft.evaluation.block_cut import cut_after, default_blocks, single_list
from mm_graft.evaluation.features import encode

IMAGES = torch.randn(8, 3, 32, 32)


@pytest.fixture
def encoder(run):
    torch.manual_seed(0)
    return build_encoder(run[0])


@pytest.mark.parametrize('block', [1, 2, 4])
def test_cut_gives_the_block_through_the_final_norm_and_leaves_the_encoder_alone(encoder, block):
    backbone, tokens = encoder.backbone, []
    handle = backbone.layers[block - 1].register_forward_hook(lambda module, args, output: tokens.append(output))
    whole = encode(backbone, IMAGES)
    handle.remove()
    features = encode(cut_after(encoder, block).backbone, IMAGES)
    torch.testing.assert_close(features, backbone.ln1(tokens[0])[:, 0])
    assert torch.equal(encode(backbone, IMAGES), whole)


def test_default_blocks_are_those_of_table_5():
    assert default_blocks(12) == [6, 9, 12]
    assert default_blocks(4) == [2, 3, 4]
    assert default_blocks(5) == [3, 4, 5]
    assert default_blocks(1) == [1]


def test_impossible_cuts_are_named(encoder):
    for block in (0, 5):
        with pytest.raises(ValueError, match='blocks 1 to 4'):
            cut_after(encoder, block)
    with pytest.raises(ValueError, match='list of transformer blocks'):
        single_list(nn.Linear(2, 2))
    stages = nn.Module()
    stages.stages = nn.ModuleList([nn.Module(), nn.Module()])
    for stage in stages.stages:
        stage.blocks = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ValueError, match='plain ViT'):
        single_list(stages)
