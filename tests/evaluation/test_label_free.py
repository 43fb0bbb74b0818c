import math

import pytest
import torch

from mm_graft.evaluation.label_free import (
    DELTA,
    VIEWS,
    alpha_req,
    crops,
    effective_rank,
    label_free_measures,
    lidar,
    rank_me,
)


def with_singular_values(values, rows=50):
    left = torch.linalg.qr(torch.randn(rows, len(values), dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))[0]
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right


def test_rankme_counts_directions_of_equal_strength():
    assert rank_me(with_singular_values([3.0, 3.0, 3.0, 0.0])) == pytest.approx(3.0, rel=1e-4)
    assert rank_me(with_singular_values([1.0, 0.0, 0.0])) == pytest.approx(1.0, rel=1e-4)


def test_rankme_is_the_entropy_of_singular_values_and_not_of_their_squares():
    share = (0.75, 0.25)
    expected = math.exp(-sum(p * math.log(p) for p in share))
    assert rank_me(with_singular_values([3.0, 1.0])) == pytest.approx(expected, rel=1e-4)


def test_rankme_ignores_scale_and_sees_an_offset():
    features = torch.randn(60, 5, dtype=torch.float64)
    assert rank_me(7 * features) == pytest.approx(rank_me(features))
    assert rank_me(features + 20) < rank_me(features) - 1


def test_rankme_is_computed_in_double_precision():
    features = torch.randn(40, 6)
    assert rank_me(features) == pytest.approx(rank_me(features.double()), rel=1e-13)


def test_nothing_has_rank_zero():
    assert rank_me(torch.zeros(5, 3)) == 0.0
    assert effective_rank(torch.ones(4)) == pytest.approx(4.0, rel=1e-4)


@pytest.mark.parametrize('alpha', [0.5, 1.0, 2.0])
def test_alpha_is_the_exponent_of_the_covariances_eigenvalues(alpha):
    values = torch.arange(1, 9, dtype=torch.float64).pow(-alpha / 2)  # singular values are the roots
    centered = torch.linalg.qr(torch.randn(40, 8, dtype=torch.float64) - 0)[0]
    centered = centered - centered.mean(0)
    centered = torch.linalg.qr(centered)[0]  # orthonormal columns of mean zero
    features = centered * values + 5.0
    assert alpha_req(features) == pytest.approx(alpha, rel=1e-6)
    assert alpha_req(features, first=2, last=5) == pytest.approx(alpha, rel=1e-6)


def test_alphas_range_matters_and_must_hold_two_values():
    features = torch.randn(30, 6, dtype=torch.float64) * torch.tensor([9.0, 9, 1, 1, 1, 1])
    assert alpha_req(features, last=2) < alpha_req(features, first=1, last=3)
    with pytest.raises(ValueError, match='fewer than two'):
        alpha_req(features, first=6)


def test_lidar_counts_directions_between_images_that_views_do_not_move():
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(400, 1, 4, dtype=torch.float64)
    images[:, 0, :2] = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(400, 10, 4, generator=generator, dtype=torch.float64)
    equal = images + 0.01 * noise
    assert lidar(equal) == pytest.approx(2.0, rel=0.05)
    moved = equal.clone()
    moved[..., 1] += 100 * noise[..., 1]  # what augmentations move tells no images apart
    assert lidar(moved) == pytest.approx(1.0, rel=0.05)
    assert lidar(equal + 50) == pytest.approx(lidar(equal), rel=1e-6)


def test_lidar_by_hand_in_one_direction_each():
    # means (±1, 0) and views ± (0, 1) around them: between = diag(2, 0), within = diag(δ, 2·2/(2·1) + δ)
    views = torch.tensor([[[1.0, 1.0], [1.0, -1.0]], [[-1.0, 1.0], [-1.0, -1.0]]])
    assert lidar(views) == pytest.approx(effective_rank(torch.tensor([2 / DELTA, 0.0])))


def test_lidar_does_not_change_when_features_are_rotated():
    torch.manual_seed(0)
    strength = torch.tensor([3.0, 1.0, 0.2, 0.05], dtype=torch.float64)
    views = torch.randn(200, 1, 4, dtype=torch.float64) + torch.randn(200, 5, 4, dtype=torch.float64) * strength
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    assert lidar(views @ rotation) == pytest.approx(lidar(views), rel=1e-9)
    assert 1.1 < lidar(views) < 3.9


def test_lidar_wants_two_images_and_two_views():
    with pytest.raises(ValueError, match='1 images with 5 views'):
        lidar(torch.randn(1, 5, 3))
    with pytest.raises(ValueError, match='5 images with 1 views'):
        lidar(torch.randn(5, 1, 3))


def test_views_are_crops_of_their_image_the_same_in_every_call():
    images = torch.rand(3, 2, 16, 12)
    views = crops(images)
    assert [view.shape for view in views] == [images.shape] * VIEWS
    assert not torch.equal(views[0], views[1])
    assert all(torch.equal(first, second) for first, second in zip(views, crops(images)))
    flat = torch.arange(3.0)[:, None, None, None].expand(3, 2, 16, 12)
    torch.testing.assert_close(crops(flat)[0], flat.contiguous())


def test_crops_have_three_quarters_of_each_side_at_places_of_the_seed():
    images = torch.rand(2, 1, 16, 12)
    generator = torch.Generator().manual_seed(0)
    for view in crops(images):
        top, left = (torch.randint(count, (), generator=generator) for count in (16 - 12 + 1, 12 - 9 + 1))
        part = images[:, :, top:top + 12, left:left + 9]
        torch.testing.assert_close(view, torch.nn.functional.interpolate(part, (16, 12), mode='bilinear'))
    assert not torch.equal(crops(images, 1)[0], crops(images)[0])


def test_measures_are_those_of_the_features_and_of_the_views_of_half_the_images():
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8)  # two batches
    weight = torch.randn(192, 6)

    def encode(pixels):
        return pixels.flatten(1) @ weight

    found = label_free_measures(encode, images)
    assert found['rank_me'] == pytest.approx(rank_me(encode(images.float())), rel=1e-4)
    assert found['alpha_req'] == pytest.approx(alpha_req(encode(images.float())), rel=1e-4)
    views = torch.stack([encode(view) for view in crops(images[:30])], 1)
    assert found['lidar'] == pytest.approx(lidar(views), rel=1e-3)
    assert set(label_free_measures(lambda pixels: torch.ones(len(pixels), 4), images)) == {'rank_me', 'lidar'}
