"""Measure all methods in one call: plain host, each change, everything together, with and without frozen blocks.

On a GPU (bf16, a few minutes):  mm_graft benchmark table --out work_dirs/speed
On a CPU (fp32):                 mm_graft benchmark table --out work_dirs/speed --width small --batch 4 --steps 5 \
                                     --warmup 1 --no-compile
"""

import gc
import json
from argparse import Namespace
from pathlib import Path

import torch
from mmengine.config import Config

from benchmarks.speed_table import CONFIGS, config_of, markdown, variants
from benchmarks.step_benchmark import best_device, compare, interleave, matmul_peak, prepare, report

ROOT = Path(__file__).parents[1]


def run(args: Namespace) -> None:
    """Measure, and write numbers and tables after each method, as ``mm_graft benchmark table`` asks."""
    args.device = args.device or best_device()
    args.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for method in args.methods:
        results[method] = measure(args, method)
        (args.out / 'speed.json').write_text(json.dumps(results, indent=1) + '\n')
        tables = [markdown(name, rows) for name, rows in results.items()]
        (args.out / 'speed.md').write_text('\n'.join(tables))


def measure(args: Namespace, method: str) -> list[tuple[str, dict]]:
    """The rows of a method, each interleaved with the first."""
    first, rows, peak = None, [], None
    for variant in variants(method, args.blocks, not args.no_compile):
        if args.device.startswith('cuda'):
            torch.cuda.reset_peak_memory_stats()
        cfg = config_of(Config.fromfile(ROOT / 'configs' / CONFIGS[method]), method, variant, args.width, args.blocks,
                        args.device.startswith('cuda'))
        step, costs = prepare(cfg, args.batch, args.img_size, args.device, variant.frozen)
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
