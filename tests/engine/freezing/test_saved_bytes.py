"""Bytes kept for the backward pass."""

import torch
from torch import nn

from mm_graft.engine.freezing.saved_bytes import SavedBytes


def test_saved_bytes_are_activations_counted_once_and_no_weights():
    model = nn.Linear(4, 8, bias=False)
    saved = SavedBytes(model)
    inputs = torch.ones(3, 4)
    with saved():
        (model(inputs) * model(inputs)).sum()
    # the input once, the two outputs of the product; not the weight
    assert saved.total == 4 * (3 * 4 + 2 * 3 * 8)


def test_nothing_is_saved_without_autograd():
    model = nn.Linear(4, 8)
    saved = SavedBytes(model)
    with saved(), torch.no_grad():
        model(torch.ones(3, 4)).square().sum()
    assert saved.total == 0
