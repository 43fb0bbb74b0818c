"""What the configs of MIM-Refiner say beyond what all configs have to."""

from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

ROOT = Path(__file__).parents[1]


def test_the_pipeline_makes_two_global_and_ten_local_views_and_keeps_the_id():
    cfg = Config.fromfile(ROOT / 'configs' / '_base_' / 'imagenet_multi_crop.py')
    init_default_scope('mmpretrain')
    pipeline = Compose(cfg.train_pipeline[1:])  # the image is here already
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[:, :200] = 255
    packed = pipeline(dict(img=image, sample_idx=7, img_path='a.png', gt_label=3))
    assert [tuple(view.shape) for view in packed['inputs']] == [(3, 224, 224)] * 2 + [(3, 96, 96)] * 10
    assert packed['data_samples'].sample_idx == 7
    assert packed['data_samples'].img_path == 'a.png'
