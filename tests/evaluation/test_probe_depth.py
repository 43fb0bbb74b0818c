import pytest
import torch
from torch import nn

from mm_graft.encoders import build_encoder
from mm_graft.evaluation.features import encode
from mm_graft.evaluation.probe_depth import (
    cut_after,
    default_blocks,
    predict_behind,
    single_list,
    train_behind,
    with_new_blocks,
)

IMAGES, LABELS = torch.randn(8, 3, 32, 32), torch.arange(8) % 2


@pytest.fixture
def encoder(run):
    torch.manual_seed(0)
    built = build_encoder(run[0])
    del built.data_preprocessor
    built.eval()
    return built


def test_cut_gives_the_block_through_the_final_norm(encoder):
    backbone = encoder.backbone
    tokens = []
    handle = backbone.layers[1].register_forward_hook(lambda module, args, output: tokens.append(output))
    encode(backbone, IMAGES)
    handle.remove()
    features = encode(cut_after(encoder, 2).backbone, IMAGES)
    torch.testing.assert_close(features, backbone.ln1(tokens[0])[:, 0])
    torch.testing.assert_close(encode(cut_after(encoder, 4).backbone, IMAGES), encode(backbone, IMAGES))


@pytest.mark.parametrize('block', [2, 4])
def test_only_new_blocks_and_final_norm_train(encoder, block):
    model = with_new_blocks(encoder, block, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    head = train_behind(model, [[(IMAGES, LABELS)]] * 3, 2, base_lr=0.1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    inner = f'backbone.layers.{block}.' if block < 4 else 'backbone.layers.3.'
    assert changed
    assert all(name.startswith((inner, 'backbone.ln1.')) for name in changed)
    assert not any(name.startswith('backbone.layers.3.0.') for name in changed)  # the last frozen block, where wrapped
    predictions, labels = predict_behind(model, head, [(IMAGES, LABELS)])
    assert predictions.shape == labels.shape == (8,)


def test_new_blocks_are_not_copies_of_old_ones(encoder):
    model = with_new_blocks(encoder, 2, 1)
    new, old = single_list(model.backbone)[2][0], single_list(encoder.backbone)[0]
    assert not torch.equal(new.attn.qkv.weight, old.attn.qkv.weight)
    assert (new.attn.qkv.bias == 0).all()


def test_default_blocks_are_those_of_table_5():
    assert default_blocks(12) == [6, 9, 12]
    assert default_blocks(4) == [2, 3, 4]


def test_impossible_cuts_are_named(encoder):
    with pytest.raises(ValueError, match='blocks 1 to 4'):
        cut_after(encoder, 5)
    with pytest.raises(ValueError, match='new_blocks=0'):
        with_new_blocks(encoder, 2, 0)
    with pytest.raises(ValueError, match='list of transformer blocks'):
        single_list(nn.Linear(2, 2))
    stages = nn.Module()
    stages.stages = nn.ModuleList([nn.Module(), nn.Module()])
    for stage in stages.stages:
        stage.blocks = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ValueError, match='plain ViT'):
        single_list(stages)
