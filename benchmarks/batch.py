"""A batch of random images in the form in which a config's loader would give it."""

import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from torch import Tensor, nn

CROPS = ('RandomResizedCrop', 'RandomCrop', 'FastCrop')
TWO_SIZES = 'RandomResizedCropAndInterpolationWithTwoPic'
MASKS = ('SimMIMMaskGenerator', 'BEiTMaskGenerator')


def pipeline_of(cfg: Config) -> list[dict]:
    """Transforms of a config's training data."""
    return cfg.train_dataloader.dataset.get('pipeline', [])


def kind(step: dict) -> str:
    """Type of a transform, without its scope."""
    return step['type'].split('.')[-1]


def crop_size(pipeline: list[dict]) -> tuple[int, int] | None:
    """Height and width that the first crop of some transforms gives; None without one."""
    for step in pipeline:
        if kind(step) in CROPS:
            return pair(step.get('scale') or step['crop_size'])
    return None


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a size that may be a side."""
    return (size, size) if isinstance(size, int) else tuple(size)


def image_size(cfg: Config) -> tuple[int, int]:
    """Height and width of the images that a config trains on: of its crop, else of its backbone."""
    return crop_size(pipeline_of(cfg)) or pair(cfg.model.backbone.get('img_size', 224))


def image_channels(backbone: nn.Module) -> int:
    """Channels of the images that a backbone takes: those of its first convolution."""
    return next(module.in_channels for module in backbone.modules() if isinstance(module, nn.Conv2d))


def random_images(count: int, channels: int, size: tuple[int, int]) -> Tensor:
    """Random bytes (count, channels, *size)."""
    return torch.randint(0, 256, (count, channels, *size), dtype=torch.uint8)


def random_batch(cfg: Config, count: int, size: tuple[int, int], channels: int) -> dict:
    """Random images or views, uint8 (count, channels, H, W), with labels, masks and label maps as the config has them.

    Args:
        cfg: a training config.
        count: images.
        size: height and width; views whose crop has a size of its own (multi-crop) keep it.
        channels: of the images.
    """
    if cfg.get('default_scope') == 'mmseg':
        from mmseg.structures import SegDataSample
        maps = [PixelData(data=torch.randint(0, 2, (1, *size))) for _ in range(count)]
        return {'inputs': list(random_images(count, channels, size)),
                'data_samples': [SegDataSample(gt_sem_seg=each) for each in maps]}
    samples = [DataSample(metainfo=dict(sample_idx=index)).set_gt_label(index % 2) for index in range(count)]
    for step in pipeline_of(cfg):
        if kind(step) in MASKS:
            for sample in samples:
                sample.mask = random_mask(step, size, image_size(cfg))
    sizes = view_sizes(cfg, size)
    views = [random_images(count, channels, each) for each in sizes]
    return {'inputs': views if len(views) > 1 else views[0], 'data_samples': samples}


def view_sizes(cfg: Config, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width of each view; of one where the config makes no views."""
    for step in pipeline_of(cfg):
        if kind(step) == TWO_SIZES:
            return [size, pair(step['second_size'])]
        if kind(step) == 'MultiView':
            numbers = [step['num_views']] if isinstance(step['num_views'], int) else step['num_views']
            crops = [crop_size(transforms) for transforms in step['transforms']]
            resized = size != image_size(cfg)
            return [size if crop is None or (resized and crop == crops[0]) else crop
                    for number, crop in zip(numbers, crops, strict=True) for _ in range(number)]
    return [size]


def random_mask(step: dict, size: tuple[int, int], usual: tuple[int, int]) -> Tensor:
    """A mask of the config's generator, whose grid grows with the images if they have not their usual size."""
    grid = step['input_size']
    if size != usual:
        grid = [side * new // old for side, new, old in zip(pair(grid), size, usual)]
        grid = grid[0] if isinstance(step['input_size'], int) else grid
    return torch.as_tensor(TRANSFORMS.build({**step, 'input_size': grid})({})['mask'])
