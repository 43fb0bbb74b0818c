import pytest
import torch
from mmengine.registry import MODELS


def build(**kwargs):
    return MODELS.build(dict(type='mm_graft.ViewsAndImagePreprocessor', mean=[100.0] * 3, std=[50.0] * 3, **kwargs))


@pytest.fixture
def batch():
    return {'inputs': torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)}


def test_the_two_views_are_those_of_the_parent_and_a_third_version_follows(batch):
    torch.manual_seed(3)
    versions = build()(batch, True)['inputs']
    torch.manual_seed(3)
    views = MODELS.build(dict(type='mm_graft.TwoViewPreprocessor', mean=[100.0] * 3, std=[50.0] * 3))(
        batch, True)['inputs']
    assert len(versions) == 3
    assert all(version.shape == (4, 3, 16, 16) for version in versions)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(versions, views))


def test_the_image_keeps_its_colors(batch):
    image = build(image_scale=(1.0, 1.0), ratio=(1.0, 1.0), flip_probability=0.0)(batch, True)['inputs'][2]
    torch.testing.assert_close(image, (batch['inputs'].float() - 100) / 50, rtol=1e-4, atol=1e-4)
    mirrored = build(image_scale=(1.0, 1.0), ratio=(1.0, 1.0), flip_probability=1.0, to_rgb=True)(
        batch, True)['inputs'][2]
    torch.testing.assert_close(mirrored, (batch['inputs'].float().flip(1, 3) - 100) / 50, rtol=1e-4, atol=1e-4)


def test_the_share_of_the_crop_matters_and_is_checked(batch):
    def third(scale):
        torch.manual_seed(0)
        return build(image_scale=scale)(batch, True)['inputs'][2]

    assert not torch.equal(third((0.2, 1.0)), third((0.9, 1.0)))
    for scale in ((0.0, 1.0), (0.5, 0.3), (0.5, 1.1)):
        with pytest.raises(ValueError, match='image_scale'):
            build(image_scale=scale)


def test_the_image_is_a_crop_of_its_own_area_and_of_the_views_ratio():
    place = torch.arange(64.).expand(16, 64, 64)
    inputs = torch.stack([place, place.transpose(1, 2), place], 1)  # how far to the right, and how far down
    image = build(image_scale=(0.2, 0.2), ratio=(2.0, 2.0), flip_probability=0.0)({'inputs': inputs}, True)['inputs'][2]
    across, down = ((image[:, channel] * 50).flatten(1) for channel in (0, 1))
    for values, side in ((across, 64 * 0.4**0.5), (down, 64 * 0.1**0.5)):
        torch.testing.assert_close(values.amax(1) - values.amin(1), torch.full((16, ), side), atol=0, rtol=0.06)


def test_no_version_needs_a_gradient(batch):
    inputs = {'inputs': batch['inputs'].float().requires_grad_(True)}
    assert not any(version.requires_grad for version in build()(inputs, True)['inputs'])


def test_evaluation_sees_the_image_as_it_is(batch):
    for found in (build()(batch, False), build()(batch)):
        torch.testing.assert_close(found['inputs'], (batch['inputs'].float() - 100) / 50)


def test_the_image_may_be_larger_than_the_views(batch):
    sizes = [version.shape[-2:] for version in build(size=(8, 8), image_size=(16, 16))(batch, True)['inputs']]
    assert sizes == [(8, 8), (8, 8), (16, 16)]
    assert {version.shape[-1] for version in build(size=(8, 8))(batch, True)['inputs']} == {8}
