"""The picture of segmentations, by the command."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'experiments' / 'camvid' / 'configs' / 'vit-tiny_upernet_camvid-half.py'


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Call the tool with these columns on two images of noise."""
    rng = np.random.default_rng(0)
    for index in range(2):
        for name, shape, end in ((f'img_dir/test/{index}.jpg', (120, 128, 3), 256),
                                 (f'ann_dir/test/{index}.png', (120, 128), 12)):
            path = tmp_path / 'data' / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, end, shape, dtype=np.uint8)).save(path)

    def call(*columns, images=(0, 1), folder=tmp_path / 'data', out=tmp_path / 'new' / 'a.png'):
        monkeypatch.setattr(sys, 'argv', [
            'draw_segmentation.py', str(CONFIG), *columns, '--images', *map(str, images), '--out', str(out),
            '--cfg-options', f'test_dataloader.dataset.data_root={folder}'])
        runpy.run_path(str(ROOT / 'tools' / 'draw_segmentation.py'), run_name='__main__')

    return call


@pytest.fixture
def checkpoint(tmp_path):
    cfg = Config.fromfile(CONFIG)
    init_default_scope(cfg.default_scope)
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def test_two_images_are_drawn(draw, checkpoint, tmp_path):
    draw(f'random weights={checkpoint}', f'again={checkpoint}')
    with Image.open(tmp_path / 'new' / 'a.png') as picture:
        assert picture.width > picture.height


def test_what_cannot_be_drawn_is_one_line(draw, checkpoint, tmp_path, capsys):
    torch.save({'state_dict': {'a': torch.zeros(1)}, 'path': tmp_path}, tmp_path / 'code.pth')
    for column, message in ((str(checkpoint), 'has no title'), (f'a={tmp_path}/b.pth', 'does not exist'),
                            (f'a={tmp_path}/code.pth', 'could run code')):
        with pytest.raises(SystemExit):
            draw(column)
        assert message in capsys.readouterr().err
    for wrong, message in (({'images': [0, 9999]}, 'the images 0 to 1'), ({'folder': '/nope'}, 'data folder /nope')):
        with pytest.raises(SystemExit):
            draw(f'a={checkpoint}', **wrong)
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'new').exists()
