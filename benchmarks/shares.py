"""Where the time of each method's step goes, operator by operator, on one thread of a CPU.

    OMP_NUM_THREADS=1 python -W ignore -m benchmarks.shares --page docs/performance.md

The table has a row for matrix products, attention and convolutions, for each other operator that takes at least 2 % of
some step, and for what the rest takes together. The bound is what the step would gain if all but the first three were
free.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch.profiler import ProfilerActivity, profile

from benchmarks.clock import PhaseClock
from benchmarks.page import put
from benchmarks.step import TrainingStep
from benchmarks.table import CONFIGS, ROOT, Variant, config_of

LEAST = 0.02
KINDS = {
    'matrix products': ('aten::mm', 'aten::addmm', 'aten::bmm', 'aten::baddbmm'),
    'fused attention': ('aten::_scaled_dot_product_flash_attention_for_cpu',
                        'aten::_scaled_dot_product_flash_attention_for_cpu_backward'),
    'convolutions': ('aten::mkldnn_convolution', 'aten::convolution_backward', 'aten::_slow_conv2d_forward',
                     'aten::_slow_conv2d_backward', 'aten::slow_conv_transpose2d'),
}


def shares(step: TrainingStep, steps: int) -> dict[str, float]:
    """Operator → its share of the time of some steps, without what it calls; a step before them does not count."""
    step.step(PhaseClock())
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(steps):
            step.step(PhaseClock())
    times = {event.key: event.self_cpu_time_total for event in found.key_averages()}
    return {name: taken / sum(times.values()) for name, taken in times.items()}


def markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    """Kinds of operators, then what is of no kind, the dearest first; a column a method, in per cent."""
    kinds = [name for names in KINDS.values() for name in names]
    others = {name for operators in found.values() for name, share in operators.items() if share >= LEAST} - {*kinds}
    order = sorted(others, key=lambda name: -sum(operators.get(name, 0) for operators in found.values()))
    rows = {**KINDS, **{f'`{name.removeprefix("aten::")}`': (name, ) for name in order},
            'all others': {name for operators in found.values() for name in operators} - others - {*kinds}}
    lines = [f'| operator, % | {" | ".join(found)} |', '|---|' + '---:|' * len(found)]
    for title, names in rows.items():
        taken = (sum(operators.get(name, 0) for name in names) for operators in found.values())
        lines.append(f'| {title} | {" | ".join(f"{100 * share:.1f}" for share in taken)} |')
    bounds = [1 / sum(operators.get(name, 0) for name in kinds) for operators in found.values()]
    return '\n'.join([*lines, f'| bound, × | {" | ".join(f"{bound:.2f}" for bound in bounds)} |'])


def main() -> None:
    """Profile each method and print, or write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--methods', nargs='+', choices=CONFIGS, default=list(CONFIGS), metavar='METHOD')
    parser.add_argument('--width', choices=('tiny', 'small', 'base'), default='tiny', help='of the ViT')
    parser.add_argument('--batch', type=int, default=4)
    parser.add_argument('--img-size', type=int, default=224)
    parser.add_argument('--steps', type=int, default=3)
    parser.add_argument('--page', type=Path, help='page that gets the table')
    args = parser.parse_args()
    torch.set_num_threads(1)
    MMLogger.get_current_instance().setLevel('WARNING')
    found = {}
    for method in args.methods:
        cfg = config_of(Config.fromfile(ROOT / 'configs' / CONFIGS[method]), method,
                        Variant('', lean=method == 'MoCo v3'), args.width, 12, False)
        found[method] = shares(TrainingStep(cfg, args.batch, args.img_size), args.steps)
        print(markdown({method: found[method]}), flush=True)
    text = (f'Encoders {args.width}, {args.img_size} pixels, batch {args.batch}, fp32, torch {torch.__version__}.\n\n'
            + markdown(found))
    if args.page:
        put(args.page, 'shares', text)


if __name__ == '__main__':
    main()
