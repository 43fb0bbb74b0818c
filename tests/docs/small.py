"""A published config, made small enough to be run by a test: widths, epochs, batches, data."""

import re

from mmengine.config import Config

from tests.shrink import shrink, shrink_swin

FEW = list(range(0, 64, 4))  # of the labeled training images; half of them are of each class
ONE_EPOCH = (re.compile(r'(epoch|iter)_\d+\.pth'), r'\1_1.pth')


def first_checkpoint(text: str) -> str:
    """Names of checkpoints of whole runs → that of the first epoch or iteration."""
    return ONE_EPOCH[0].sub(ONE_EPOCH[1], text)


def small_config(cfg: Config) -> Config:
    """Train one epoch or iteration of a narrow model in batches of four, on the few images of the sandbox."""
    model = cfg.model.to_dict()
    cfg.model = shrink_swin(model) if 'Swin' in model['backbone']['type'] else shrink(model)
    for hook in named_checkpoints(cfg):
        hook.checkpoint = first_checkpoint(hook.checkpoint)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name):
            small_loader(cfg[name])
    schedule = cfg.get('param_scheduler') or []
    for scheduler in schedule if isinstance(schedule, list) else [schedule]:
        if 'warmup' in scheduler:
            scheduler.warmup = 0
    small_loop(cfg)
    return cfg


def named_checkpoints(cfg: Config) -> list[dict]:
    """The hooks that read a checkpoint."""
    hooks = [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]
    return [hook for hook in hooks if hook and isinstance(hook.get('checkpoint'), str)]


def small_loader(loader: dict) -> None:
    """Few images, read in the process itself."""
    loader.update(batch_size=min(loader['batch_size'], 4), num_workers=0, persistent_workers=False, pin_memory=False)
    if loader['dataset']['type'] == 'ImageNet':
        pipeline = loader['dataset']['pipeline']
        loader['dataset'] = dict(type='CustomDataset', data_root='data/own_labeled/train', pipeline=pipeline,
                                 indices=FEW)


def small_loop(cfg: Config) -> None:
    """One epoch, or one iteration."""
    loop = cfg.get('train_cfg') or {}
    if loop.get('type') == 'IterBasedTrainLoop':
        loop.update(max_iters=1, val_interval=1)
        cfg.default_hooks.checkpoint.interval = 1
    elif 'max_epochs' in loop:
        loop['max_epochs'] = cfg.max_epochs = 1
    if cfg.get('default_hooks'):
        cfg.default_hooks.checkpoint.interval = 1
