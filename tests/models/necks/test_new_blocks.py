import pytest
import torch

from mm_graft.models.necks.new_blocks import NewBlocks


def test_without_blocks_the_class_token_is_only_normalized():
    tokens = torch.randn(2, 5, 8) * 1e-3  # so small that the norm's eps counts
    (output,) = NewBlocks(8, 0, 2)((tokens,))
    torch.testing.assert_close(output, torch.nn.functional.layer_norm(tokens[:, 0], (8,), eps=1e-6))


def test_new_blocks_let_the_class_token_see_the_patches_and_learn():
    neck = NewBlocks(8, 2, 2)
    tokens = torch.randn(2, 5, 8, requires_grad=True)
    neck((tokens,))[0].square().sum().backward()
    assert tokens.grad[:, 1:].abs().sum() > 0
    assert all(parameter.grad is not None for parameter in neck.parameters())


def test_drop_path_is_the_same_in_all_new_blocks_and_width_can_be_chosen():
    neck = NewBlocks(8, 3, 2, feedforward_channels=20, drop_path_rate=0.3)
    assert {block.ffn.dropout_layer.drop_prob for block in neck.blocks} == {0.3}
    assert neck.blocks[0].ffn.layers[0][0].out_features == 20
    assert NewBlocks(8, 1, 2).blocks[0].ffn.layers[0][0].out_features == 32


def test_negative_number_of_blocks_is_refused():
    with pytest.raises(ValueError, match='num_blocks=-1'):
        NewBlocks(8, -1, 2)
