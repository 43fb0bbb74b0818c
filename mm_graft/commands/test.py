"""Test a checkpoint with the data and metrics of its config: classification, segmentation."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import add_launcher, add_overrides, target
from mm_graft.commands.configs import add_checkpoint, check_test_data, config_for, run_name
from mm_graft.commands.meeting import meet, telling_others
from mm_graft.files import check_target_folder, writing_to

if TYPE_CHECKING:
    from mmengine.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """OpenMMLab's flags."""
    add_checkpoint(parser)
    parser.add_argument('--work-dir', help='folder for logs (default: work_dirs/<name of the config>)')
    parser.add_argument('--out', type=target('.pkl', '.pickle'), help='file for the predictions (.pkl)')
    add_overrides(parser)
    add_launcher(parser)


def check(args: argparse.Namespace) -> Config:
    """The config as it will be run; its data and the checkpoint exist."""
    cfg = config_for(args.checkpoint, args.config, args.cfg_options)
    check_test_data(cfg, args.config or args.checkpoint)
    cfg.launcher, cfg.load_from = args.launcher, args.checkpoint
    given = cfg.get('work_dir') if args.config else None  # a checkpoint does not choose where files are written
    cfg.work_dir = args.work_dir or given or f'work_dirs/{run_name(cfg, args.checkpoint)}'
    check_target_folder(cfg.work_dir)
    return cfg


def run(args: argparse.Namespace, cfg: Config) -> None:
    """Test."""
    from mm_graft.checkpoints import read_checkpoint
    from mm_graft.checkpoints.bounds import bounded_by
    from mm_graft.commands.components import explained
    from mm_graft.commands.data_checks import ClassNamesHook
    from mm_graft.commands.running import build_runner
    from mm_graft.engine.reliability.strict_load_hook import StrictLoadHook
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    with telling_others(args.launcher):
        read_checkpoint(args.checkpoint)  # a clear error before anything is built
    meet(args.launcher)
    with writing_to(cfg.work_dir), explained(cfg):
        with bounded_by(args.checkpoint, cfg.model):
            runner = build_runner(cfg)
        if args.out:
            from mmengine.evaluator import DumpResults
            runner.test_evaluator.metrics.append(DumpResults(out_file_path=str(args.out)))
        runner.register_hook(ClassNamesHook('test_dataloader'))
        runner.register_hook(StrictLoadHook(complete=True))
        runner.test()
