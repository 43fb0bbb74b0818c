import pytest
import torch

from mm_graft.commands.start.given import read_encoder
from tests.tiny import mae_file


def test_size_and_image_are_read_from_the_tensors(tmp_path):
    encoder = read_encoder(mae_file(tmp_path / 'mae.pth', width=192, layers=3))
    assert (encoder.name, encoder.width, encoder.blocks, encoder.heads) == ('deit-tiny', 192, 3, 3)
    assert (encoder.image_size, encoder.patch_size) == (32, 8)


def test_other_encoders_are_refused(tmp_path):
    with pytest.raises(ValueError, match='width 16; known are'):
        read_encoder(mae_file(tmp_path / 'mae.pth'))
    torch.save({'model': {'blocks.0.norm1.weight': torch.ones(4)}}, tmp_path / 'half.pth')
    with pytest.raises(ValueError):  # noqa: PT011 - the reader's words
        read_encoder(str(tmp_path / 'half.pth'))
