"""Encoders as ONNX files, of any batch size."""

from pathlib import Path

import torch
from torch import nn

from mm_graft.encoders import Encoder
from mm_graft.files import atomic_write, check_target


def export_onnx(backbone: nn.Module, path: str | Path, image_size: tuple[int, int], opset: int = 18) -> None:
    """Write an encoder, put into eval mode: normalized images of one size → its last output, any batch size."""
    check_target(path, '.onnx')
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{error.name} is missing; pip install -r requirements/export.txt') from error
    encoder = Encoder(backbone)
    encoder.eval()
    images = torch.zeros(2, encoder.num_channels, *image_size)  # a batch of one would be taken for a constant
    with atomic_write(path) as part:
        torch.onnx.export(
            encoder, (images, ), part, input_names=['images'], output_names=['tokens'], opset_version=opset,
            dynamo=True, external_data=False, dynamic_shapes={'images': {0: torch.export.Dim('batch')}}, verbose=False)


@torch.no_grad()
def largest_difference(backbone: nn.Module, path: str | Path, image_size: tuple[int, int]) -> float:
    """Largest difference between onnxruntime and PyTorch on random images, relative to the largest value."""
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    encoder, worst = Encoder(backbone), 0.0
    for batch in (1, 3):
        images = torch.randn(batch, encoder.num_channels, *image_size)
        expected = encoder(images)
        actual = torch.from_numpy(session.run(None, {'images': images.numpy()})[0])
        worst = max(worst, float((actual - expected).abs().max() / expected.abs().max()))
    return worst
