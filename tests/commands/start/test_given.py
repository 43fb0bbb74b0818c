import pytest
import timm
import torch

from mm_graft.checkpoints import CheckpointError
from mm_graft.commands.start.given import read_encoder
from tests.tiny import mae_file


def test_size_and_image_are_read_from_the_tensors(tmp_path):
    encoder = read_encoder(mae_file(tmp_path / 'mae.pth', width=192, layers=3))
    assert (encoder.width, encoder.blocks, encoder.heads) == (192, 3, 3)
    assert (encoder.image_size, encoder.patch_size) == (32, 8)
    assert (encoder.backbone['type'], encoder.backbone['out_type']) == ('mm_graft.TimmViT', 'cls_token')
    assert encoder.pixels['std'] == pytest.approx([58.395, 57.12, 57.375])


def test_weights_of_dinov2_are_an_encoder_too(tmp_path):
    vit = timm.create_model('vit_small_patch14_dinov2', embed_dim=128, depth=2, num_heads=2, img_size=56)
    torch.save(vit.state_dict(), tmp_path / 'dinov2.pth')
    encoder = read_encoder(str(tmp_path / 'dinov2.pth'))
    assert (encoder.width, encoder.blocks, encoder.image_size, encoder.patch_size) == (128, 2, 56, 14)


def test_other_files_are_refused(tmp_path):
    torch.save({'model': {'blocks.0.norm1.weight': torch.ones(4)}}, tmp_path / 'half.pth')
    with pytest.raises(CheckpointError):
        read_encoder(str(tmp_path / 'half.pth'))
