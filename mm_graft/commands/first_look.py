"""Checks on the first samples of each loader, before the first epoch.

A wrong size or mask would fail in the loss with an error that names no key and no file, and in the validation set only
after the first epoch. Samples are read in the main process, without advancing the run's random state.
"""

from collections.abc import Mapping
from itertools import permutations

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import SyncBatchNorm
from torch.utils.data import DataLoader

from mm_graft.commands.data_checks import members
from mm_graft.commands.first_masks import check_masks
from mm_graft.commands.messages import INPUT_ERRORS, one_line
from mm_graft.depth import find_backbone, unwrap
from mm_graft.encoders import patch_projection
from mm_graft.models.grids import check_divides
from mm_graft.random_state import random_state_kept


class FirstLookHook(Hook):
    """Runs :func:`first_look` before a training loads or writes anything."""

    def before_run(self, runner: Runner) -> None:
        """Check."""
        first_look(runner)


def first_look(runner: Runner) -> None:
    """Read two samples of each loader, and masks; check that they fit each other and the model, and the schedules."""
    check_schedules(runner)
    loaders = {'train_dataloader': runner.train_dataloader}
    if runner.val_loop is not None:
        loaders['val_dataloader'] = runner.val_loop.dataloader
    model = unwrap(runner.model) if isinstance(runner.model, nn.Module) else None
    if model is not None:
        check_parts(model)
        check_single_images(model, runner.train_dataloader)
    with random_state_kept():
        for name, loader in loaders.items():
            samples = first_samples(name, loader)
            if model is None or not samples:
                continue
            inputs = prepared(name, model, loader, samples, training=name == 'train_dataloader')
            if name == 'train_dataloader' or not hasattr(model, 'decode_head'):  # whole pictures are tested by windows
                check_sizes(name, model, inputs)
            if hasattr(model, 'decode_head'):
                for key, dataset in members(name, loader.dataset).items():
                    check_masks(key, model, dataset)


def check_schedules(runner: Runner) -> None:
    """Check that nothing else moves what a schedule of ours sets: the host's multiply what they find."""
    built = runner.param_schedulers or []
    for together in built.values() if isinstance(built, dict) else [built]:
        for ours, other in permutations(together, 2):
            alike = ours.param_name == other.param_name
            if alike and getattr(ours, 'closed_form', False) and meet(runner, ours, other):
                raise ValueError(f'param_scheduler: {type(ours).__name__} sets `{ours.param_name}` in each of its '
                                 f'steps, so that {type(other).__name__} beside it has no effect; leave one out, or '
                                 'let one begin where the other ends')


def meet(runner: Runner, *schedules: _ParamScheduler) -> bool:
    """Whether schedules have a common iteration."""
    lengths = [len(runner.train_dataloader) if schedule.by_epoch else 1 for schedule in schedules]
    return (max(schedule.begin * length for schedule, length in zip(schedules, lengths))
            < min(schedule.end * length for schedule, length in zip(schedules, lengths)))


def first_samples(name: str, loader: DataLoader) -> list:
    """The first and the last sample of a loader's data set; none of one that cannot be indexed."""
    if not hasattr(loader.dataset, '__getitem__') or not hasattr(loader.dataset, '__len__'):
        return []
    samples = []
    for index in dict.fromkeys((0, len(loader.dataset) - 1)):
        try:
            samples.append(loader.dataset[index])
        except INPUT_ERRORS as error:
            raise ValueError(f'{name}: sample {index} of {type(loader.dataset).__name__} cannot be made: '
                             f'{one_line(error)}') from error
    return samples


def prepared(name: str, model: nn.Module, loader: DataLoader, samples: list, training: bool) -> list[Tensor]:
    """Batches of images as the model gets them: collated, normalized, cropped on the device."""
    shapes = [sorted(tuple(image.shape) for image in images_of(sample)) for sample in samples]
    try:
        batch = loader.collate_fn(samples)
        if getattr(model, 'data_preprocessor', None) is not None:
            batch = model.data_preprocessor(batch, training)
    except INPUT_ERRORS as error:
        stem, (channels, *_) = stem_of(model), shapes[0][0] if shapes[0] else (None, )
        if stem is not None and channels not in (None, stem.in_channels):
            raise ValueError(other_channels(name, channels, model)) from error
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError(f'{name}: images of a batch must have one size, but the first and the last have '
                             f'{shapes[0]} and {shapes[-1]} (channels, height, width); end the pipeline with a crop, '
                             f'or resize both sides ({one_line(error)})') from error
        raise ValueError(f'{name}: its samples make no batch: {one_line(error)}') from error
    return images_of(batch)


def images_of(batch: object) -> list[Tensor]:
    """Images in a sample or batch of the host's form: of all views."""
    inputs = batch.get('inputs') if isinstance(batch, Mapping) else None
    inputs = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    return [image for image in (inputs if isinstance(inputs, list | tuple) else [inputs]) if isinstance(image, Tensor)]


def check_sizes(name: str, model: nn.Module, inputs: list[Tensor]) -> None:
    """Check that images have the backbone's channels, divide into its patches and, if it hides some, its size."""
    stem = stem_of(model)
    if stem is None:
        return
    size = getattr(find_backbone(model)[1], 'img_size', None)
    for image in inputs:
        if image.ndim != 4:
            continue
        if image.shape[1] != stem.in_channels:
            raise ValueError(other_channels(name, image.shape[1], model))
        height, width = image.shape[2:]
        if hides(model) and len(inputs) == 1 and isinstance(size, tuple) and (height, width) != size:
            raise ValueError(f'{name} gives images of {height}×{width}, but model.backbone.img_size is '
                             f'{size[0]}×{size[1]}, on which masks and decoder depend; give both the same')
        pads = getattr(find_backbone(model)[1].patch_embed, 'dynamic_img_pad', False)  # timm, where it was asked to
        if stem.kernel_size == stem.stride and not pads:
            check_divides((height, width), stem.stride)


def stem_of(model: nn.Module) -> nn.Conv2d | None:
    """The convolution that embeds patches; None if the backbone is of an unknown kind."""
    try:
        stem = patch_projection(model)
    except AttributeError:
        return None
    return stem if isinstance(stem, nn.Conv2d) else None


def other_channels(name: str, channels: int, model: nn.Module) -> str:
    """The error message for images of so many channels."""
    option = 'in_channels' if find_backbone(model)[0].endswith('timm_model.') else 'patch_cfg.in_channels'
    return (f'{name} gives images of {channels} channels, but model.backbone takes {stem_of(model).in_channels}; set '
            f'model.backbone.{option}={channels}, or the color of the loading')


def hides(model: nn.Module) -> bool:
    """Whether a model hides patches, so that its grid is fixed."""
    return any(hasattr(part, name) for part in (getattr(model, 'backbone', None), getattr(model, 'neck', None))
               for name in ('mask_token', 'mask_ratio'))


def check_parts(model: nn.Module) -> None:
    """Check that some patches are hidden and some visible, and that decoder, head and encoder agree on them."""
    backbone, neck, head = (getattr(model, name, None) for name in ('backbone', 'neck', 'head'))
    ratio = getattr(backbone, 'mask_ratio', None)
    if isinstance(ratio, float | int) and not 0 < ratio < 1:
        raise ValueError(f'model.backbone.mask_ratio={ratio} leaves nothing to predict or nothing to see; choose one '
                         'between 0 and 1')
    stem, patch = stem_of(model), getattr(head, 'patch_size', None)
    if stem is None or not isinstance(patch, int):
        return
    if stem.stride != (patch, patch):
        raise ValueError(f'model.head.patch_size={patch}, but the patches of model.backbone have '
                         f'{stem.stride[0]}×{stem.stride[1]} pixels; give both, and the neck, the same patch_size')
    predicted = getattr(getattr(neck, 'decoder_pred', None), 'out_features', None)
    if predicted is not None and predicted != patch**2 * stem.in_channels:
        raise ValueError(f'model.neck predicts {predicted} numbers a patch, but a patch of {patch}×{patch} pixels in '
                         f'{stem.in_channels} channels has {patch**2 * stem.in_channels}; give model.neck the '
                         f'patch_size={patch} and in_chans={stem.in_channels} of the backbone')


def check_single_images(model: nn.Module, loader: DataLoader) -> None:
    """Check that no batch of a single image reaches a batch norm over vectors, which would have no variance."""
    size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)
             or (isinstance(module, SyncBatchNorm) and get_world_size() == 1 and not name.startswith('backbone'))]
    if not norms or not size or hasattr(model, 'decode_head'):
        return
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    samples = len(sampler)
    drops = getattr(loader.batch_sampler, 'drop_last', False) or isinstance(sampler, InfiniteSampler)
    if size == 1 or (samples % size == 1 and not drops):
        which = 'every batch' if size == 1 else f'the last batch of an epoch ({samples} images by {size})'
        remedy = 'train_dataloader.batch_size=2' if size == 1 else 'train_dataloader.drop_last=True'
        raise ValueError(f'{which} has a single image, of which batch norm ({norms[0]}) has no variance; '
                         f'--cfg-options {remedy}')
