import pytest
import torch
from mmengine.registry import MODELS

from tests.models.test_grids import ours

LOSS = dict(type='PixelReconstructionLoss', criterion='L2')


def build(type_='mm_graft.MAEPretrainHead', **kwargs):
    return MODELS.build(dict(type=type_, patch_size=8, loss=LOSS) | kwargs)


@pytest.mark.parametrize('norm_pix', [True, False])
def test_on_square_images_it_is_the_hosts(norm_pix):
    images, prediction, mask = torch.randn(2, 3, 32, 32), torch.randn(2, 16, 192), torch.rand(2, 16).round()
    host, head = build('MAEPretrainHead', norm_pix=norm_pix), build(norm_pix=norm_pix)
    assert torch.equal(head.loss(prediction, images, mask), host.loss(prediction, images, mask))
    assert torch.equal(head.unpatchify(prediction, (4, 4)), host.unpatchify(prediction))


def test_patches_of_a_wide_image_come_row_by_row_and_go_back():
    image = torch.arange(16 * 24.).reshape(1, 1, 16, 24)
    patches = build().patchify(image)  # (1, 2·3, 64)
    assert patches[0, 3 + 1].tolist() == image[0, 0, 8:, 8:16].flatten().tolist()
    assert torch.equal(build().unpatchify(patches, (2, 3)), image)


def test_patches_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ValueError, match='patches of 8×8 pixels do not divide an image of 16×20'):
        build().patchify(torch.zeros(1, 3, 16, 20))


@pytest.mark.parametrize('size', [(16, 64), (64, 16), (16, 24)])
def test_maes_loss_on_images_that_are_not_square_is_the_error_of_the_hidden_patches(size):
    rows, columns = (side // 8 for side in size)
    model, images = MODELS.build(ours(grid=(rows, columns), img_size=size)), torch.randn(2, 3, *size)
    model.init_weights()
    torch.manual_seed(1)
    loss = model.loss(images, [])['loss']
    torch.manual_seed(1)
    latent, mask, order = model.backbone(images)
    predictions, errors = model.neck(latent, order), []
    for image, prediction, hidden in zip(images, predictions, mask):
        for number in hidden.nonzero().flatten().tolist():
            row, column = divmod(number, columns)
            patch = image[:, 8 * row:8 * row + 8, 8 * column:8 * column + 8]
            target = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
            errors.append((prediction[number].reshape(8, 8, 3).permute(2, 0, 1) - target).square().mean())
    torch.testing.assert_close(loss, torch.stack(errors).mean())
    loss.backward()
    assert all(parameter.grad.any() for parameter in model.parameters() if parameter.requires_grad)
