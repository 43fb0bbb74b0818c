"""Test a checkpoint with the data and metrics of its config (classification, segmentation)."""

import argparse
import os
from pathlib import Path

from mmengine.config import DictAction

from mm_graft.checkpoints import read_checkpoint
from mm_graft.commands.data_checks import ClassNamesHook
from mm_graft.commands.running import build_runner, check_folders, clean_errors, load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for logs (default: work_dirs/<name of the config>)')
    parser.add_argument('--out', help='file for the predictions (.pkl)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides, key=value')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main() -> None:
    args = parse_args()
    with clean_errors():
        cfg = load_config(args.config, args.cfg_options)
        if not cfg.get('test_dataloader'):
            raise ValueError(f'{args.config} has no test_dataloader; a pre-training config has nothing to test, '
                             'use tools/evaluate.py for its checkpoints')
        check_folders(cfg, 'test_dataloader')
        read_checkpoint(args.checkpoint)  # a clear error before anything is built
        cfg.launcher, cfg.load_from = args.launcher, args.checkpoint
        cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
        runner = build_runner(cfg)
        if args.out:
            from mmengine.evaluator import DumpResults
            runner.test_evaluator.metrics.append(DumpResults(out_file_path=args.out))
        runner.register_hook(ClassNamesHook('test_dataloader'))
        runner.test()


if __name__ == '__main__':
    main()
