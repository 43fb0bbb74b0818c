"""A batch of random images in the form in which a config's loader would give it."""

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample

CROPS = ('RandomResizedCrop', 'RandomCrop', 'mm_graft.FastCrop')


def pipeline_of(cfg: Config) -> list[dict]:
    """Transforms of a config's training data."""
    return cfg.train_dataloader.dataset.get('pipeline', [])


def transform_types(pipeline: list[dict]) -> list[str]:
    """Types of all transforms, nested ones included."""
    types = []
    for step in pipeline:
        types.append(step['type'])
        for branch in step.get('transforms', []):
            types.extend(transform_types(branch if isinstance(branch, list) else [branch]))
    return types


def image_size(cfg: Config) -> int:
    """Side of the images that a config trains on: of its crop, else of its backbone."""
    for step in pipeline_of(cfg):
        if step['type'] in CROPS:
            size = step.get('scale') or step.get('crop_size')
            return size if isinstance(size, int) else size[0]
    return cfg.model.backbone.get('img_size', 224)


def view_sizes(pipeline: list[dict], size: int) -> list[int]:
    """Sides of the views that a pipeline makes of an image: ``size``, and those of smaller crops beside them."""
    step = next(step for step in pipeline if step['type'] == 'MultiView')
    crops = [next((part['scale'] for part in transforms if part['type'] in CROPS), size)
             for transforms in step['transforms']]
    counts = [step['num_views']] if isinstance(step['num_views'], int) else step['num_views']
    return [size if crop == crops[0] else crop for count, crop in zip(counts, crops) for _ in range(count)]


def input_channels(cfg: Config) -> int:
    """Channels of the images, as the backbone takes them."""
    backbone = cfg.model.backbone
    return backbone.get('patch_cfg', {}).get('in_channels', backbone.get('in_channels', 3))


def random_batch(cfg: Config, batch_size: int, size: int) -> dict:
    """Random uint8 images (B, C, size, size), or a list of views, with labels, masks or maps if the config has them."""
    images = torch.randint(0, 256, (batch_size, input_channels(cfg), size, size), dtype=torch.uint8)
    if cfg.get('default_scope') == 'mmseg':
        from mmseg.structures import SegDataSample
        maps = [PixelData(data=torch.randint(0, 2, (1, size, size))) for _ in images]
        return {'inputs': list(images), 'data_samples': [SegDataSample(gt_sem_seg=each) for each in maps]}
    types = transform_types(pipeline_of(cfg))
    samples = [DataSample(metainfo=dict(sample_idx=index)).set_gt_label(index % 2) for index in range(batch_size)]
    if 'SimMIMMaskGenerator' in types:
        for sample in samples:
            sample.mask = (torch.rand(size // 4, size // 4) < 0.6).int()
    if 'MultiView' in types:
        views = [torch.randint(0, 256, (*images.shape[:2], side, side), dtype=torch.uint8)
                 for side in view_sizes(pipeline_of(cfg), size)]
        return {'inputs': views, 'data_samples': samples}
    return {'inputs': images, 'data_samples': samples}
