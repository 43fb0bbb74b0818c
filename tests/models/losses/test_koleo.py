import math

import pytest
import torch

from mm_graft.models.losses.koleo import koleo


def test_value_by_hand_is_of_the_nearest_neighbor_on_the_sphere():
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])  # at 0, 90 and 180 degrees
    assert koleo(features).item() == pytest.approx(-math.log(math.sqrt(2)), rel=1e-6)
    near = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    distances = [math.sqrt(0.8), math.sqrt(0.8), math.sqrt(1.6 ** 2 + 0.8 ** 2)]
    assert koleo(near).item() == pytest.approx(-sum(map(math.log, distances)) / 3, rel=1e-6)


def test_spreading_features_lowers_it_and_equal_ones_stay_finite():
    crowd = torch.tensor([[1.0, 0.0], [0.99, 0.1], [0.99, -0.1]])
    spread = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]])
    assert koleo(spread) < koleo(crowd)
    # PyTorch adds ε to each of four differences, and the logarithm has one more
    assert koleo(torch.ones(3, 4)).item() == pytest.approx(-math.log(2e-8 + 1e-8), rel=1e-6)


def test_the_gradient_pushes_neighbors_apart():
    features = torch.tensor([[1.0, 0.1], [1.0, -0.1]], requires_grad=True)
    koleo(features).backward()
    assert features.grad[0, 1] < 0 < features.grad[1, 1]


def test_half_precision_is_computed_in_single_and_one_image_is_refused():
    assert koleo(torch.randn(4, 8).bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match='koleo_weight=0'):
        koleo(torch.randn(1, 8))
