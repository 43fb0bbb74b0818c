"""Train with any MMEngine config: pre-training, fine-tuning, segmentation."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import add_launcher, add_overrides
from mm_graft.commands.batches import scale_by_effective_batch, share_batch
from mm_graft.commands.configs import check_paths, load_config, set_init
from mm_graft.commands.meeting import meet, telling_others
from mm_graft.commands.trackers import add_trackers, set_trackers
from mm_graft.files import check_target_folder, writing_to

if TYPE_CHECKING:
    from mmengine.config import Config

OF_SCALER = 'loss_scale', 'dtype'  # options of the host's AmpOptimWrapper, of no meaning in bf16 without a scaler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OpenMMLab's flags."""
    parser.add_argument('config', help='config file, or the name of one of ours such as graft/vit-b_mae2mocov3')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<name of the config>)')
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CHECKPOINT',
                        help='continue from CHECKPOINT, or from the latest one in the work dir')
    parser.add_argument('--init', metavar='FILE',
                        help='initial weights of the encoder: a checkpoint of any known layout, or none')
    parser.add_argument('--amp', action='store_true', help='bf16 autocast, without a gradient scaler')
    parser.add_argument('--no-validate', action='store_true', help='skip validation')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    add_trackers(parser)
    add_overrides(parser)
    add_launcher(parser)


def check(args: argparse.Namespace) -> tuple[Config, list[str]]:
    """The final config, and notes on what the command line changed; checks that data and checkpoints exist."""
    notes, options = [], args.cfg_options or {}
    cfg = merge_args(load_config(args.config, options, notes), args)
    asked, base = options.get('batch_size'), (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if asked is not None and asked == base and 'train_dataloader.batch_size' not in options:
        notes.append(share_batch(cfg, asked))
    scale_by_effective_batch(cfg)
    check_paths(cfg)
    check_target_folder(cfg.work_dir)
    return cfg, notes


def run(args: argparse.Namespace, inputs: tuple[Config, list[str]]) -> None:
    """Train; an error up to the end of the first iteration is one of the inputs."""
    cfg, notes = inputs
    from mm_graft.commands.agreement import check_agreement
    from mm_graft.commands.components import TRAINING, check_needed, check_options, check_types, explained
    from mm_graft.commands.data_checks import ClassNamesHook
    from mm_graft.commands.run_checks import BatchSizeHook, check_data
    from mm_graft.commands.run_defaults import settle_log
    from mm_graft.commands.run_guards import guard_config, guard_run, take_folder
    from mm_graft.commands.running import StartedHook, build_runner, join_processes, reported
    from mm_graft.engine.hooks.sharding_check_hook import ShardingCheckHook
    from mm_graft.engine.reliability.strict_load_hook import StrictLoadHook, initialize_strictly
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with telling_others(args.launcher):
        check_needed(cfg, TRAINING)
        check_types(cfg)
        guard_config(cfg)
    meet(args.launcher)
    join_processes(cfg)
    check_agreement(cfg)
    take_folder(cfg)
    started = StartedHook()
    with writing_to(cfg.work_dir), explained(cfg):
        runner = build_runner(cfg)
        guard_run(runner)
        initialize_strictly(runner)
        for hook in (started, ShardingCheckHook(), BatchSizeHook(), ClassNamesHook('train_dataloader'),
                     StrictLoadHook()):
            runner.register_hook(hook)
        for note in notes:
            runner.logger.info(note)
        check_data(runner)
        if chosen := settle_log(runner):
            runner.logger.info(chosen)
        check_options(cfg)
        with reported(started), writing_to(cfg.work_dir):
            runner.train()


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Put the command line into the config."""
    from mmengine.config import ConfigDict
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(cfg.filename).stem}'
    set_trackers(cfg, args.tracker)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        cfg.optim_wrapper.type = 'mm_graft.AutocastOptimWrapper'
        for name in OF_SCALER:
            cfg.optim_wrapper.pop(name, None)
    if args.init is not None:
        set_init(cfg, args.init)
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(f'{args.config} does not say for which batch size its learning rate is; '
                             'add auto_scale_lr=dict(base_batch_size=…) to it')
        cfg.auto_scale_lr.enable = True
    # mmseg and mmdet pad images of unequal size themselves, on the device
    collate = 'pseudo_collate' if cfg.get('default_scope') in ('mmseg', 'mmdet') else 'default_collate'
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name):
            cfg[name] = ConfigDict({'collate_fn': dict(type=collate), **cfg[name]})
            cfg[name].collate_fn.pop('_scope_', None)  # of an inherited config; the Runner would pass it on
    return cfg
