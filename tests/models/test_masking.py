import torch

from mm_graft.models.masking import choose_visible, insert_mask_tokens, replace_hidden


def test_the_patches_of_smallest_noise_stay():
    visible, restore, mask = choose_visible(torch.tensor([[0.4, 0.1, 0.9, 0.2]]), 2)
    assert visible.tolist() == [[1, 3]]
    assert mask.tolist() == [[True, False, True, False]]
    shuffled = torch.tensor([10, 30, 0, 20])  # of patches 1, 3, 0, 2
    assert shuffled[restore[0]].tolist() == [0, 10, 20, 30]


def test_mask_tokens_fill_the_hidden_places():
    restored = insert_mask_tokens(torch.tensor([[[1.], [2.]]]), torch.tensor([[[9.]]]), torch.tensor([[3, 0, 2, 1]]))
    assert restored.flatten().tolist() == [9, 1, 9, 2]


def test_hidden_tokens_become_the_mask_token_in_sequences_and_in_maps():
    tokens, token = torch.arange(12.).view(1, 6, 2), torch.tensor([[[-1., -2.]]], requires_grad=True)
    mask = torch.tensor([[False, True, False, False, False, True]])
    replaced = replace_hidden(tokens, mask, token)
    assert replaced[0].tolist() == [[0, 1], [-1, -2], [4, 5], [6, 7], [8, 9], [-1, -2]]
    torch.testing.assert_close(replace_hidden(tokens.view(1, 2, 3, 2), mask, token), replaced.view(1, 2, 3, 2))
    replaced.sum().backward()
    assert token.grad.flatten().tolist() == [2, 2]
    assert replace_hidden(tokens.bfloat16(), mask, token).dtype == torch.bfloat16
