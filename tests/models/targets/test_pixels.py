import pytest
import torch

from mm_graft.models.targets.pixels import PixelTarget, standardize_patches
from tests.defaults import defaults


def test_patches_are_standardized_with_the_unbiased_variance():
    patch = torch.tensor([[[1., 2., 3., 6.]]])
    expected = (patch - 3) / (14 / 3 + 1e-6)**0.5
    torch.testing.assert_close(standardize_patches(patch), expected)


def test_every_patch_is_standardized_by_itself_and_has_no_gradient():
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    target = PixelTarget((4, ))(images)[0]
    assert not target.requires_grad
    torch.testing.assert_close(target.mean(-1), torch.zeros(2, 4), atol=1e-6, rtol=0)
    torch.testing.assert_close(target.var(-1), torch.ones(2, 4), atol=1e-4, rtol=0)
    assert defaults(PixelTarget) == {'cells': (4, 8, 16, 32), 'standardized': True}


def test_flat_patches_become_zero():
    assert not standardize_patches(torch.full((1, 1, 12), 0.3)).any()


def test_every_scale_has_its_own_size_and_unwanted_ones_are_not_computed():
    target = PixelTarget(cells=(2, 4, 3))
    fine, coarse, odd = target(torch.randn(1, 3, 8, 8), scales=(0, 1))
    assert fine.shape == (1, 16, target.out_channels[0])
    assert coarse.shape == (1, 4, target.out_channels[1])
    assert odd is None


def test_the_plain_target_is_the_image():
    images = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(PixelTarget((4, ), standardized=False)(images)[0][0, 0],
                               images[0].permute(1, 2, 0).flatten())


def test_half_precision_images_give_full_precision_targets():
    assert PixelTarget((2, ))(torch.randn(1, 3, 4, 4).bfloat16())[0].dtype == torch.float32
    assert PixelTarget((2, ))(torch.randn(1, 3, 4, 4).double())[0].dtype == torch.float64


def test_a_size_that_does_not_divide_the_image_is_refused():
    with pytest.raises(ValueError, match='patches of 3×3 pixels do not divide an image of 4×4'):
        PixelTarget((3, ))(torch.zeros(1, 3, 4, 4))
    for cells in ((), (0, 4), (4, 0)):
        with pytest.raises(ValueError, match='at least one side'):
            PixelTarget(cells)
    PixelTarget((1, ))
