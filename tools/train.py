"""Train with any MMEngine config: pre-training, fine-tuning, segmentation."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction

from mm_graft.commands.data_checks import ClassNamesHook
from mm_graft.commands.run_checks import BatchSizeHook, check_data, check_optimizer
from mm_graft.commands.running import (
    StartedHook,
    build_runner,
    check_paths,
    clean_errors,
    join_processes,
    load_config,
)
from mm_graft.engine.hooks.sharding_check_hook import ShardingCheckHook


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/<name of the config>)')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from CHECKPOINT, or from the latest one in the work dir')
    parser.add_argument('--amp', action='store_true', help='bf16 autocast, without a gradient scaler')
    parser.add_argument('--no-validate', action='store_true', help='skip validation')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides, key=value')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def merge_args(cfg: Config, args: argparse.Namespace) -> Config:
    """Put the command line into the config."""
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.amp:
        cfg.optim_wrapper.type = 'mm_graft.AutocastOptimWrapper'
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.auto_scale_lr:
        if 'auto_scale_lr' not in cfg:
            raise ValueError(f'{args.config} does not say for which batch size its learning rate is; '
                             'add auto_scale_lr=dict(base_batch_size=…) to it')
        cfg.auto_scale_lr.enable = True
    # mmseg pads images of unequal size itself, on the device
    collate = 'pseudo_collate' if cfg.get('default_scope') == 'mmseg' else 'default_collate'
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name):
            cfg[name] = ConfigDict({'collate_fn': dict(type=collate), **cfg[name]})
            cfg[name].collate_fn.pop('_scope_', None)  # of an inherited config; the Runner would pass it on
    return cfg


def main() -> None:
    args = parse_args()
    started = StartedHook()
    with clean_errors(started):
        cfg = merge_args(load_config(args.config, args.cfg_options), args)
        check_paths(cfg)
        check_optimizer(cfg)
        join_processes(cfg)
        runner = build_runner(cfg)
        runner.register_hook(started)
        runner.register_hook(ShardingCheckHook())
        runner.register_hook(BatchSizeHook())
        runner.register_hook(ClassNamesHook('train_dataloader'))
        check_data(runner)
        runner.train()


if __name__ == '__main__':
    main()
