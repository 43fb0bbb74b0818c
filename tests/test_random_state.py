import random

import numpy as np
import pytest
import torch

from mm_graft.random_state import random_state_kept, seed_generators, seed_host_generators


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_each_generator_goes_on_as_if_nothing_had_been_drawn():
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    expected = drawn()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(3)
    with pytest.raises(ZeroDivisionError), random_state_kept():
        sum(drawn()) / 0
    assert drawn() == expected


def test_every_number_of_the_entropy_counts():
    seen = set()
    for entropy in ((0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2), (0, 1, 0, 1), (0, 1, 1, 1)):
        seed_generators(*entropy)
        seen.add(drawn())
    assert len(seen) == 6
    assert seed_host_generators(0, 0, 1) != seed_host_generators(0, 0, 2)
    seed_host_generators(0, 0, 1)
    assert drawn() in seen
