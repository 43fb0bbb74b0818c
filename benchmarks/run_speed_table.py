"""Measure all methods in one call: plain host, each change, everything together, with and without frozen blocks.

On a GPU (bf16, a few minutes):  python benchmarks/run_speed_table.py --out work_dirs/speed
On a CPU (fp32):                 python benchmarks/run_speed_table.py --out work_dirs/speed --width small --batch 4 \
                                     --steps 5 --warmup 1 --no-compile
"""

import argparse
import gc
import json
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from benchmarks.speed_table import CONFIGS, WIDTHS, Variant, config_of, markdown, variants
from benchmarks.step_benchmark import compare, count, interleave, matmul_peak, report
from benchmarks.training_step import TrainingStep
from mm_graft.commands.running import clean_errors
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.engine.speed.channels_last_hook import ChannelsLastHook
from mm_graft.engine.speed.compile_blocks_hook import CompileBlocksHook
from mm_graft.engine.speed.model_hook import apply_configured

ROOT = Path(__file__).parents[1]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where speed.json and speed.md go')
    parser.add_argument('--methods', nargs='+', choices=list(CONFIGS), default=list(CONFIGS), metavar='METHOD')
    parser.add_argument('--width', choices=list(WIDTHS), default='base')
    parser.add_argument('--blocks', type=int, default=12, metavar='N', help='depth (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=128, metavar='N', help='images a step (default: %(default)s)')
    parser.add_argument('--img-size', type=int, default=224, metavar='N', help='side (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=20, metavar='N', help='measured steps (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=5, metavar='N', help='steps before (default: %(default)s)')
    parser.add_argument('--no-compile', action='store_true', help='leave out the rows with compiled blocks')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    return parser.parse_args()


def build(args: argparse.Namespace, method: str, variant: Variant) -> tuple[TrainingStep, dict]:
    cfg = config_of(Config.fromfile(ROOT / 'configs' / CONFIGS[method]), method, variant, args.width, args.blocks,
                    args.device.startswith('cuda'))
    step = TrainingStep(cfg, args.batch, args.img_size, args.device)
    if variant.frozen:
        freeze_blocks(step.model, step.optim_wrapper.optimizer, variant.frozen)
    apply_configured(step.model, cfg.custom_hooks, ChannelsLastHook)
    costs = count(step)
    apply_configured(step.model, cfg.custom_hooks, CompileBlocksHook)
    return step, costs


def measure(args: argparse.Namespace, method: str) -> list[tuple[str, dict]]:
    first, rows, peak = None, [], None
    for variant in variants(method, args.blocks, not args.no_compile):
        if args.device.startswith('cuda'):
            torch.cuda.reset_peak_memory_stats()
        step, costs = build(args, method, variant)
        first = first or step
        peak = peak or matmul_peak(step.device, step.compute_dtype)
        both = [first, step] if step is not first else [step]
        times = interleave(both, args.steps, args.warmup)
        row = report(step, costs, times[-1], peak)
        if step is not first:
            row |= compare(times[1], times[0], (args.batch, args.batch))
        rows.append((variant.name, row))
        print(f'{method}, {variant.name}: {row["ms_per_step"]:.0f} ms', flush=True)
        del step, both
        gc.collect()
    return rows


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel('WARNING')  # no line per parameter
    args.out.mkdir(parents=True, exist_ok=True)
    results = {}
    with clean_errors():
        for method in args.methods:
            results[method] = measure(args, method)
            (args.out / 'speed.json').write_text(json.dumps(results, indent=1) + '\n')
            tables = [markdown(name, rows) for name, rows in results.items()]
            (args.out / 'speed.md').write_text('\n'.join(tables))


if __name__ == '__main__':
    main()
