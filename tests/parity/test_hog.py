"""HOG targets against the authors' numbers, in both precisions; sizes are read from the names of the arrays."""

import re

import numpy as np
import pytest
import torch

from mm_graft.models.targets.hog import HOGTarget, biased_hog
from tests.parity.builders import to_input

PRECISIONS = pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=['fp64', 'fp32'])


@pytest.fixture(scope='module')
def stored(golden):
    with np.load(golden / 'hog_targets.npz', allow_pickle=False) as file:
        return dict(file)


def sizes(stored: dict, kind: str) -> dict[int, list[int]]:
    """nbins → cell sizes of the arrays ``KIND/nN_pP``."""
    found: dict[int, list[int]] = {}
    for name in stored:
        if match := re.fullmatch(rf'{kind}/n(\d+)_p(\d+)', name):
            found.setdefault(int(match.group(1)), []).append(int(match.group(2)))
    return found


def check_all_scales(stored: dict, kind: str, images: torch.Tensor) -> None:
    atol = 1e-6 if images.dtype == torch.float64 else 5e-6
    found = sizes(stored, kind)
    assert found
    for nbins, cells in found.items():
        for cell, target in zip(cells, HOGTarget(nbins, cells)(images)):
            np.testing.assert_allclose(target.numpy(), stored[f'{kind}/n{nbins}_p{cell}'], rtol=0, atol=atol)


@PRECISIONS
def test_hog_pooled_from_one_histogram_agrees_at_every_scale(stored, dtype):
    check_all_scales(stored, 'target', to_input(stored['images']).to(dtype))


@PRECISIONS
def test_hog_agrees_on_exact_ties_and_at_the_border(stored, dtype):
    check_all_scales(stored, 'exact_target', torch.from_numpy(stored['exact_input'].transpose(0, 3, 1, 2)).to(dtype))


@PRECISIONS
def test_hog_with_a_bias_agrees(stored, dtype):
    image, bias = to_input(stored['images'])[:1].to(dtype), torch.from_numpy(stored['bias']).to(dtype)
    for nbins, cells in sizes(stored, 'bias_target').items():
        for cell in cells:
            target = biased_hog(image, nbins, cell, bias)
            np.testing.assert_allclose(target.numpy(), stored[f'bias_target/n{nbins}_p{cell}'], rtol=0,
                                       atol=1e-6 if dtype == torch.float64 else 5e-6)


@PRECISIONS
def test_hog_of_a_constant_image_is_zero(stored, dtype):
    image = to_input(stored['const_image'][None]).to(dtype)
    for name in (name for name in stored if name.startswith('const_target/')):
        nbins = int(name.removeprefix('const_target/n'))
        np.testing.assert_array_equal(HOGTarget(nbins, (8, ))(image)[0].numpy(), stored[name])
