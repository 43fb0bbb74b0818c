"""Encoders as ONNX files, of any batch size."""

import inspect
from pathlib import Path

import torch
from torch import Tensor, nn

from mm_graft.files import atomic_write


class TokenEncoder(nn.Module):
    """An encoder that takes normalised images and returns its last tokens as one tensor.

    Args:
        backbone: a ViT of mmpretrain, this package or timm.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        # the host's MAE hides patches unless told not to
        self.arguments = {'mask': None} if 'mask' in inspect.signature(backbone.forward).parameters else {}

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 1 + num_patches, D) or what ``out_type`` of the backbone says."""
        forward = getattr(self.backbone, 'forward_features', self.backbone)
        output = forward(images, **self.arguments)
        return output[-1] if isinstance(output, tuple | list) else output


def export_onnx(backbone: nn.Module, path: str | Path, image_size: tuple[int, int], opset: int = 18) -> None:
    """Write an encoder as ONNX, images of one size, batches of any; whole or not at all.

    Args:
        backbone: the encoder; put into eval mode.
        path: the new file.
        image_size: height and width.
        opset: version of ONNX's operators.

    Raises:
        ImportError: the packages of requirements/export.txt are missing.
        ValueError: the name does not end in ``.onnx``.
    """
    path = Path(path)
    if path.suffix != '.onnx':
        raise ValueError(f'{path}: the format follows the name; end it in .onnx')
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f'{error.name} is missing; pip install -r requirements/export.txt') from error
    encoder = TokenEncoder(backbone)
    encoder.eval()
    images = torch.zeros(2, 3, *image_size)  # a batch of one would be taken for a constant
    with atomic_write(path) as part:
        torch.onnx.export(
            encoder, (images, ), part, input_names=['images'], output_names=['tokens'], opset_version=opset,
            dynamo=True, external_data=False, dynamic_shapes={'images': {0: torch.export.Dim('batch')}}, verbose=False)
