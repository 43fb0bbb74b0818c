from dataclasses import replace

import pytest
import torch
from torch import nn

from experiments.continuing.images import Domain, Labeled
from experiments.continuing.scores import POOLS, score, tokens
from mm_graft.encoders import Encoder


class Colors(nn.Module):
    """Tokens of 2×2 patches: the class token is the first channel, patches the second and third."""

    OUT_TYPES = ('raw', )
    out_type = 'cls_token'

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.projection = nn.Conv2d(3, 1, 2, 2)
        self.layers = nn.ModuleList([nn.Identity()])
        self.patch_resolution = (2, 2)

    def forward(self, images):
        assert images.shape[2:] == (4, 4)
        mean = images.mean((2, 3))
        prefix = torch.stack([mean[:, 0], 1 - mean[:, 0]], 1)
        patch = torch.stack([mean[:, 1], 1 - mean[:, 1]], 1)
        return (torch.stack([prefix, *[patch] * 4], 1), )


def labeled(channel, labels):
    """Images of which one channel tells the class and the others nothing."""
    pixels = torch.full((len(labels), 3, 8, 8), 127.5)
    pixels[:, channel] = 255.0 * torch.tensor(labels).reshape(-1, 1, 1)
    return Labeled(pixels, torch.tensor(labels))


@pytest.mark.parametrize(('channel', 'telling', 'blind'), [(0, *POOLS), (1, *POOLS[::-1])])
def test_each_pool_is_scored_by_itself(channel, telling, blind):
    bank = labeled(channel, [0] * 20 + [1] * 20)
    mislabeled = replace(labeled(channel, [0, 1]), labels=torch.tensor([1, 0]))
    domain = Domain(bank, mislabeled, labeled(channel, [0, 1]))
    encoder = Encoder(Colors(), mean=[0.0] * 3, std=[255.0] * 3)
    assert score(encoder, {'a': domain}) == {'a': {telling: 100, blind: 50}}
    assert score(encoder, {'a': domain}, 'held_out')['a'][telling] == 0


def test_images_are_scaled_to_the_encoder_and_normalized():
    encoder = Encoder(Colors(), mean=[51.0, 0.0, 0.0], std=[255.0] * 3)
    assert tokens(encoder, torch.full((1, 3, 28, 28), 102, dtype=torch.uint8))[0, 0].tolist() == pytest.approx([.2, .8])
