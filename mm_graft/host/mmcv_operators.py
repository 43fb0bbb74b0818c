"""Three operators of torchvision in the place of mmcv's compiled ones, for detection where mmcv has none.

mmdetection imports mmcv's operators, which the wheels without compiled code lack, and neither package falls back. This
module, imported by a config's ``custom_imports``, puts a module ``mmcv._ext`` in their place that has ``nms``,
``roi_align_forward`` and ``roi_align_backward``; any other operator says by name that it is missing when it is called.
It does nothing where compiled operators are installed, and nothing imports it unasked: other packages take its
presence for a full mmcv.
"""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms
from torchvision.ops import roi_align as torchvision_roi_align

from mm_graft.equations import at_least_float32

NAME = 'mmcv._ext'


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes (N, 4) that stay, by falling score; with ``offset`` 1 a box includes its last pixel."""
    dtype = torch.promote_types(at_least_float32(boxes).dtype, scores.dtype)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    return torchvision_nms(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)


def roi_align_forward(features: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, *,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Mean of bilinear samples in each cell of each box, written into ``output`` (boxes, C, height, width).

    Boxes are (boxes, 5), index of the image and corners; features (B, C, H, W) of half precision are computed in
    float32; as many samples as a cell has pixels are taken if ``sampling_ratio`` is not positive; the arguments are
    those of mmcv's operator.
    """
    if pool_mode != 1:
        raise NotImplementedError("RoIAlign(pool_mode='max') is not among the operators that torchvision offers; use "
                                  "pool_mode='avg', or install an mmcv with compiled operators")
    output.copy_(_pool(at_least_float32(features), at_least_float32(rois), (aligned_height, aligned_width),
                       spatial_scale, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor, *,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Gradient of :func:`roi_align_forward` with respect to the features, written into ``grad_input``."""
    features = torch.zeros_like(at_least_float32(grad_input), requires_grad=True)
    with torch.enable_grad():  # linear in the features: zeros have the gradient of any
        pooled = _pool(features, at_least_float32(rois), (aligned_height, aligned_width), spatial_scale,
                       sampling_ratio, aligned)
    grad_input.copy_(torch.autograd.grad(pooled, features, at_least_float32(grad_output))[0])


def _pool(features: Tensor, rois: Tensor, size: tuple[int, int], scale: float, ratio: int, aligned: bool) -> Tensor:
    return torchvision_roi_align(features, rois.to(features), size, scale, ratio if ratio > 0 else -1, aligned)


class Operators(ModuleType):
    """A substitute for ``mmcv._ext``."""

    nms = staticmethod(nms)
    roi_align_forward = staticmethod(roi_align_forward)
    roi_align_backward = staticmethod(roi_align_backward)

    def __getattr__(self, name: str) -> Callable:
        """An operator that says it is missing, when it is called."""
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args, **kwargs) -> None:
            raise NotImplementedError(
                f'mmcv has no compiled operators here, and torchvision has no counterpart of {name!r}; use a model '
                'without it, or install an mmcv with compiled operators')

        return missing


def install() -> bool:
    """Install the operators as ``mmcv._ext`` unless that exists; returns whether they are in use."""
    if NAME in sys.modules:
        return isinstance(sys.modules[NAME], Operators)
    if find_spec(NAME) is not None:
        return False
    early = sorted(name for name in sys.modules if name.startswith('mmdet.models.'))
    if early:
        raise ImportError(f'{early[0]} was imported before {__name__}, and found mmcv without operators; import this '
                          'module first (mmpretrain.models imports mmdet where it is installed)')
    module = Operators(NAME, __doc__)
    module.__spec__ = ModuleSpec(NAME, loader=None)  # MMEngine asks for it to find out whether mmcv is a full one
    sys.modules[NAME] = module
    return True


install()
