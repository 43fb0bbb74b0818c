"""Fine-tuning by a recipe config, for any encoder and data of an experiment, on few images or on all."""

from collections.abc import Sequence
from copy import deepcopy
from math import ceil
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mm_graft.checkpoints import read_checkpoint
from mm_graft.checkpoints.projector import FIRST_LAYERS, first_projection
from mm_graft.evaluation.datasets import CROP_SHARE, LOADERS, dataset_configs, image_size, kind_of

SIZES = ('arch', 'img_size', 'patch_size', 'patch_cfg', 'in_channels')


def finetune_config(
    recipe: Config,
    cfg: Config,
    checkpoint: str,
    rows: Sequence[int],
    num_classes: int,
    work_dir: str | Path,
    branch: str = 'base',
    epochs: int | None = None,
    workers: int = 2,
) -> Config:
    """The recipe put on an evaluation's encoder, data and few-shot rows.

    A checkpoint without a projector (MAE's) gets a plain classifier. So did MAE's number in the paper, we infer: the
    authors' option reads contrastive checkpoints only.

    Args:
        recipe: such as ``configs/eval/fewshot10_vit-b.py``. Its learning rate is scaled to the batch at hand.
        cfg: with ``model.backbone`` and data sets.
        checkpoint: the file to start from.
        rows: positions of the images in the training set.
        num_classes: C.
        work_dir: for logs.
        branch: which encoder of a contrastive checkpoint.
        epochs: instead of the recipe's.
        workers: processes that read images.
    """
    result = deepcopy(recipe)
    _put_encoder(result, cfg, checkpoint, branch, num_classes)
    _put_data(result, cfg, list(rows), workers)
    result.train_cfg.max_epochs = epochs or result.train_cfg.max_epochs
    result.param_scheduler.warmup = min(result.param_scheduler.warmup, result.train_cfg.max_epochs // 2)
    result.train_cfg.val_interval = result.train_cfg.max_epochs + 1  # the last epoch is scored once, by test()
    result.default_hooks.checkpoint = None
    result.visualizer = None
    result.auto_scale_lr.enable = True
    result.work_dir = str(work_dir)
    result.experiment_name = f'fewshot_{Path(work_dir).name}'
    return result


def finetune_accuracy(cfg: Config) -> float:
    """Train by a config of :func:`finetune_config` and return the last epoch's top-1 accuracy (a fraction)."""
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner.test()['accuracy/top1'] / 100


def _put_encoder(result: Config, cfg: Config, checkpoint: str, branch: str, num_classes: int) -> None:
    sizes = {name: cfg.model.backbone[name] for name in SIZES if name in cfg.model.backbone}
    result.model.backbone.update(sizes)
    tensors = read_checkpoint(checkpoint)
    projected = any(name in tensors for name in FIRST_LAYERS[branch])
    width = MODELS.build(result.model.backbone).embed_dims
    if projected:
        width, features = first_projection(tensors, branch).shape
        result.model.neck = dict(type='mm_graft.FirstProjection', in_channels=features, out_channels=width)
    else:
        result.model.neck = None
    result.model.head.update(num_classes=num_classes, in_channels=width)
    result.default_hooks.init = dict(type='mm_graft.LoadBackboneHook', checkpoint=checkpoint, branch=branch,
                                     projection='neck.layer' if projected else None)


def _put_data(result: Config, cfg: Config, rows: list[int], workers: int) -> None:
    size, _ = image_size(cfg)
    train, test = dataset_configs(cfg)
    loads = [step for step in train['pipeline'] if kind_of(step) in LOADERS]
    recipe_steps = [step for step in result.train_dataloader.dataset.pipeline if kind_of(step) not in LOADERS]
    train['pipeline'] = [*loads, *(_at_size(dict(step), size) for step in recipe_steps)]
    train['indices'] = rows
    loading = dict(num_workers=workers, persistent_workers=workers > 0)
    batch = min(result.train_dataloader.batch_size, len(rows))
    result.train_dataloader.update(batch_size=batch, **loading)
    result.train_dataloader['dataset'] = train  # `update` would merge it into the recipe's
    for name in ('val', 'test'):
        result[f'{name}_dataloader'].update(**loading)
        result[f'{name}_dataloader']['dataset'] = deepcopy(test)
        result[f'{name}_evaluator'] = dict(type='Accuracy', topk=(1,))
    known = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    if known.get('mean') is not None and len(known['mean']) != len(result.data_preprocessor.mean):
        result.data_preprocessor.update(mean=known['mean'], std=known['std'], to_rgb=False)
    result.data_preprocessor.num_classes = result.model.head.num_classes


def _at_size(step: dict, size: int) -> dict:
    changes = {'RandomResizedCrop': {'scale': size}, 'CenterCrop': {'crop_size': size},
               'ResizeEdge': {'scale': ceil(size / CROP_SHARE)}}
    return {**step, **changes.get(kind_of(step), {})}
