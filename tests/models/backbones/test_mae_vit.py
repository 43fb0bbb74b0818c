import pytest
import torch
from mmengine.registry import MODELS

from tests.tiny import VIT


def build(type_='mm_graft.MAEViT', **kwargs):
    torch.manual_seed(5)
    vit = MODELS.build(dict(type=type_, **VIT) | kwargs)
    vit.init_weights()
    return vit


def test_on_square_images_it_is_the_hosts_to_the_bit():
    host, ours = build('MAEViT'), build()
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in host.state_dict().items())
    images = torch.randn(2, 3, 32, 32)
    results = []
    for vit in (host, ours):
        torch.manual_seed(6)
        results.append([*vit(images), *vit(images, mask=None)])
    assert all(torch.equal(left, right) for left, right in zip(*results))
    assert torch.equal(ours(images, mask=False)[0], results[1][-1])  # whole images; the host would hide patches


@pytest.mark.parametrize('size', [(288, 512), (512, 288), (64, 256), (32, 8)])
def test_neighbors_are_alike_in_both_directions_of_the_table(size):
    grid = [side // 8 for side in size]
    table = build(img_size=size).pos_embed[0, 1:].reshape(*grid, -1)
    first, second = table[..., :8], table[..., 8:]  # of the row, of the column
    assert torch.equal(first, first[:, :1].expand_as(first))
    assert torch.equal(second, second[:1].expand_as(second))
    assert len(first[:, 0].unique(dim=0)) == grid[0]
    assert len(second[0].unique(dim=0)) == grid[1]


def test_hidden_pixels_of_a_wide_image_do_not_matter_and_visible_ones_do():
    vit, images = build(img_size=(16, 64)), torch.randn(1, 3, 16, 64)
    torch.manual_seed(1)
    tokens, mask, _ = vit(images)
    hidden = mask.bool().unflatten(1, (2, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    for area, same in ((hidden, True), (~hidden, False)):
        torch.manual_seed(1)
        assert torch.equal(vit(torch.where(area, torch.zeros(()), images))[0], tokens) == same


def test_a_checkpoint_of_init_cfg_is_not_overwritten(tmp_path):
    state = {name: torch.full_like(tensor, 0.5) for name, tensor in build().state_dict().items()}
    torch.save(state, tmp_path / 'a.pth')
    loaded = build(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    assert all((tensor == 0.5).all() for tensor in loaded.state_dict().values())


def test_images_of_another_shape_with_as_many_patches_are_refused():
    with pytest.raises(ValueError, match='images of 16×64 pixels came to an encoder built for 32×32'):
        build()(torch.randn(1, 3, 16, 64))
    assert build()(torch.randn(1, 3, 16, 64), mask=None)[0].shape == (1, 17, 16)  # resized to what comes


def test_patches_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ValueError, match='patches of 8×8 pixels do not divide an image of 32×36'):
        build(img_size=(32, 36))
