"""The command as a user would give it, run inside this process."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

TOOL = Path(__file__).parents[2] / 'tools' / 'visualize_reconstruction.py'
CONFIG = """
default_scope = 'mmpretrain'
data_preprocessor = dict(type='SelfSupDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, to_rgb=True)
arch = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
model = dict(
    type='mm_graft.LocalMIM',
    backbone=dict(type='mm_graft.LocalMIMViT', arch=arch, img_size=32, patch_size=8, taps=[2, 4]),
    neck=dict(type='mm_graft.LocalMIMNeck', in_channels=16, grids=4, scales=[2, 1], embed_dims=8, num_heads=2),
    target_generator=dict(type='mm_graft.HOGTarget', cells=[4, 8]),
    head=dict(type='mm_graft.LocalMIMHead'))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the tool on a tiny config, with what the test adds."""
    (tmp_path / 'config.py').write_text(CONFIG)
    settings: dict = {}
    exec(CONFIG, settings)
    torch.save(MODELS.build({**settings['model'], 'data_preprocessor': settings['data_preprocessor']}).state_dict(),
               tmp_path / 'model.pth')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / 'a.png')

    def call(*images: str, seed: int = 0) -> bytes:
        out = tmp_path / 'new' / 'out.png'
        arguments = [tmp_path / 'config.py', tmp_path / 'model.pth', *(tmp_path / image for image in images)]
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments), '--out', str(out), '--dpi', '40',
                                          '--seed', str(seed)])
        runpy.run_path(str(TOOL), run_name='__main__')
        return out.read_bytes()

    return call


def test_it_writes_a_picture_that_follows_the_seed(run):
    assert run('a.png') == run('a.png')
    assert run('a.png') != run('a.png', seed=1)


def test_a_missing_picture_is_one_line_of_error(run, capsys):
    with pytest.raises(SystemExit):
        run('b.png')
    assert 'is not a readable picture' in capsys.readouterr().err
