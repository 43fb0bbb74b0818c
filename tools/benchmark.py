"""Measure a config: its training step on random images, or its data pipeline."""

import argparse
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from prettytable import PrettyTable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.loader_benchmark import measure_loader
from benchmarks.step_benchmark import compare, count, interleave, matmul_peak, report
from benchmarks.training_step import TrainingStep
from mm_graft.commands.running import check_folders, clean_errors, load_config
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.engine.speed.channels_last_hook import ChannelsLastHook
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook
from mm_graft.engine.speed.compile_blocks_hook import CompileBlocksHook
from mm_graft.engine.speed.model_hook import apply_configured
from mm_graft.evaluation.report import write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    step = commands.add_parser('step', help='the real training step: preprocessing, forward, backward, optimizer, EMA')
    step.add_argument('--batch', type=int, metavar='N', help='images a step (default: the config\'s)')
    step.add_argument('--img-size', type=int, metavar='N', help='side of the images (default: the config\'s)')
    step.add_argument('--freeze', type=int, default=0, metavar='K', help='freeze the stem and the first K blocks')
    step.add_argument('--steps', type=int, default=20, metavar='N', help='measured steps (default: %(default)s)')
    step.add_argument('--warmup', type=int, default=5, metavar='N', help='steps before (default: %(default)s)')
    step.add_argument('--vs', metavar='OTHER_CONFIG', help='measure this one in turns with the other')
    step.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    loader = commands.add_parser('loader', help='the data pipeline, alone')
    loader.add_argument('--images', type=int, default=300, metavar='N', help='images (default: %(default)s)')
    loader.add_argument('--folder', type=Path, help='JPEGs to use instead of the config\'s data')
    loader.add_argument('--synthetic', action='store_true', help='make 500×375 JPEGs and use them instead')
    loader.add_argument('--workers', type=int, default=0, metavar='N', help='also run a loader with N processes')
    for command in (step, loader):
        command.add_argument('config', help='config file')
        command.add_argument('--json', type=Path, metavar='F', help='also write the result there')
        command.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides, key=value')
    args = parser.parse_args()
    if args.command == 'step' and min(args.steps, 1 if args.batch is None else args.batch) < 1:
        parser.error('--steps and --batch must be at least 1')
    return args


def prepare(args: argparse.Namespace, path: str) -> tuple[TrainingStep, dict]:
    cfg = load_config(path, args.cfg_options)
    step = TrainingStep(cfg, args.batch, args.img_size, args.device)
    if args.freeze:
        freeze_blocks(step.model, step.optim_wrapper.optimizer, args.freeze)
    hooks = cfg.get('custom_hooks')
    for kind in (ChannelsLastHook, CheckpointBlocksHook):
        apply_configured(step.model, hooks, kind)
    costs = count(step)
    costs['compiled_blocks'] = apply_configured(step.model, hooks, CompileBlocksHook)
    return step, {'config': path, 'frozen_blocks': args.freeze, **costs}


def run_step(args: argparse.Namespace) -> dict:
    prepared = [prepare(args, path) for path in (args.config, args.vs) if path]
    steps = [step for step, _ in prepared]
    times = interleave(steps, args.steps, args.warmup)
    peak = matmul_peak(steps[0].device, steps[0].compute_dtype)
    results = [report(step, costs, taken, peak) for (step, costs), taken in zip(prepared, times)]
    if args.vs:
        results[0]['vs'] = {**compare(*times, [step.batch_size for step in steps]), 'other': results[1]}
    return results[0]


def run_loader(args: argparse.Namespace) -> dict:
    cfg = load_config(args.config, args.cfg_options)
    if not (args.folder or args.synthetic):
        check_folders(cfg, 'train_dataloader')
    return measure_loader(cfg, args.images, args.folder, args.synthetic, args.workers)


def print_result(result: dict) -> None:
    table = PrettyTable(['what', 'value'], align='l', header=False)
    for key, value in result.items():
        nested = value if isinstance(value, dict) else {'': value}
        for name, item in nested.items():
            if not isinstance(item, dict):
                table.add_row([f'{key} {name}', f'{item:.5g}' if isinstance(item, float) else item])
    print(table)


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel('WARNING')  # no line per parameter
    with clean_errors():
        result = run_step(args) if args.command == 'step' else run_loader(args)
        print_result(result)
        if args.json:
            write_json(args.json, result)


if __name__ == '__main__':
    main()
