import importlib.util

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from mm_graft.checkpoints.onnx_export import export_onnx, largest_difference
from mm_graft.encoders import Encoder

INSTALLED = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxruntime', 'onnxscript'))


def build(kind, arch, **options):
    backbone = MODELS.build(dict(type=kind, arch=arch, img_size=32, patch_size=8, **options))
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    backbone.eval()
    return backbone


@pytest.mark.skipif(not INSTALLED, reason='needs requirements/export.txt')
@pytest.mark.parametrize('kind', ['VisionTransformer', 'MAEViT', 'mm_graft.GraftViT', 'mm_graft.ConMIMViT'])
def test_onnxruntime_computes_the_same_for_any_batch(kind, tiny_arch, tmp_path):
    import onnxruntime
    backbone = build(kind, tiny_arch, out_type='raw')
    export_onnx(backbone, tmp_path / 'a.onnx', (32, 32))
    assert [path.name for path in tmp_path.iterdir()] == ['a.onnx']
    session = onnxruntime.InferenceSession(tmp_path / 'a.onnx', providers=['CPUExecutionProvider'])
    for batch in (1, 2, 5):
        images = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            expected = Encoder(backbone)(images).numpy()
        actual = session.run(None, {'images': images.numpy()})[0]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.skipif(not INSTALLED, reason='needs requirements/export.txt')
def test_images_have_the_channels_of_the_encoder(tiny_arch, tmp_path):
    backbone = build('VisionTransformer', tiny_arch, in_channels=5)
    export_onnx(backbone, tmp_path / 'a.onnx', (32, 32))
    assert largest_difference(backbone, tmp_path / 'a.onnx', (32, 32)) < 1e-4


def test_the_name_must_say_the_format(tiny_arch, tmp_path):
    with pytest.raises(ValueError, match=r'\.onnx'):
        export_onnx(build('VisionTransformer', tiny_arch), tmp_path / 'a.pth', (32, 32))


@pytest.mark.skipif(INSTALLED, reason='they are installed')
def test_missing_packages_are_named(tiny_arch, tmp_path):
    with pytest.raises(ImportError, match=r'requirements/export\.txt'):
        export_onnx(build('VisionTransformer', tiny_arch), tmp_path / 'a.onnx', (32, 32))
