from contextlib import nullcontext

import pytest
import torch

from benchmarks.memory import CHECKPOINTED, FROZEN, GRAFT_L, LEAN, build, fixed_bytes, image_bytes, largest_batch
from benchmarks.table import CONFIGS


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch):
    monkeypatch.setattr(torch, 'autocast', lambda *args, **kwargs: nullcontext())  # there is none for the meta device


def test_weights_that_learn_take_four_times_the_room_of_others():
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    assert fixed_bytes(model) == 16 * 6 + 4 * 2


@pytest.mark.parametrize(('image', 'images'), [(10., 8), (11., 7), (81., 0)])
def test_images_fill_what_weights_and_reserve_leave(image, images):
    assert largest_batch(100., 10., image) == images


def test_each_way_keeps_less():
    plain, lean, frozen, recomputed = (
        image_bytes(build(CONFIGS['MoCo v3'], way)) for way in ((), (LEAN, ), (FROZEN, ), (CHECKPOINTED, )))
    assert plain > lean > frozen > recomputed
    assert frozen == pytest.approx(plain / 2, rel=0.02)


def test_frozen_blocks_of_the_large_graft_need_neither_gradients_nor_moments():
    plain, frozen = build(GRAFT_L, ()), build(GRAFT_L, (FROZEN, ))
    block = sum(param.numel() for param in plain.backbone.layers[0].parameters())
    assert fixed_bytes(plain) - fixed_bytes(frozen) >= 12 * 12 * block
