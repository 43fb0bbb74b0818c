"""A tiny evaluation: 12 + 12 images, dark or light, a random ViT."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mm_graft.encoders import build_encoder
from mm_graft.evaluation.frozen import EvaluationSettings
from mm_graft.evaluation.linear_probe import LinearProbeSettings, sweep_grid
from mm_graft.evaluation.protocols import ProtocolSettings

PROTOCOL = ProtocolSettings(
    ks=(3,), linear=LinearProbeSettings(grid=tuple(sweep_grid((1,))), epochs=2, batch_size=16), fewshot_share=0.5)


@pytest.fixture
def run(tmp_path, tiny_arch):
    """A config, a checkpoint and settings of a tiny evaluation."""
    generator = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label, name in enumerate(('dark', 'light')):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(6):
                image = generator.integers(0, 60, (32, 32, 3)) + 190 * label
                cv2.imwrite(str(tmp_path / split / name / f'{index}.png'), image.astype(np.uint8))
    cfg = Config({
        'model': {'type': 'ImageClassifier',
                  'data_preprocessor': {'mean': [127.0] * 3, 'std': [64.0] * 3, 'to_rgb': True},
                  'backbone': {'type': 'VisionTransformer', 'arch': tiny_arch, 'img_size': 32, 'patch_size': 16}},
        'train_dataloader': {'dataset': {
            'type': 'CustomDataset', 'data_root': str(tmp_path), 'data_prefix': 'train',
            'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]}}})
    encoder = build_encoder(cfg)
    torch.save({'state_dict': {f'backbone.{name}': value for name, value in encoder.backbone.state_dict().items()}},
               tmp_path / 'vit.pth')
    settings = EvaluationSettings(cache=str(tmp_path / 'cache'), workers=0, protocol=PROTOCOL)
    return cfg, str(tmp_path / 'vit.pth'), settings
