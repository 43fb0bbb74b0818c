"""A table of all methods: plain host, each change, everything together, then with frozen blocks.

On a GPU (bf16, a few minutes):  mm_graft benchmark table --out work_dirs/speed
On a CPU (fp32):                 mm_graft benchmark table --out work_dirs/speed --width small --batch 4 --steps 5 \
                                     --warmup 1 --no-compile
"""

import gc
import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from benchmarks.measure import best_device, compare, interleave, matmul_peak, prepare, report

ROOT = Path(__file__).parents[1]

CONFIGS = {
    'MAE': 'graft/vit-b_mae.py',
    'MoCo v3': 'graft/vit-b_mae2mocov3.py',
    'ConMIM': 'conmim/conmim_vit-base-p16_16xb128-amp-coslr-800e_in1k.py',
    'LocalMIM': 'localmim/localmim_vit-base-p16_8xb256-amp-coslr-100e_in1k.py',
}
WIDTHS = {'tiny': (192, 3), 'small': (384, 6), 'base': (768, 12)}
COMPILE = {'type': 'mm_graft.CompileBlocksHook'}
CHANNELS_LAST = {'type': 'mm_graft.ChannelsLastHook'}
COLUMNS = ('change', 'ms', 'images/s', '× first row (quartiles)', 'GFLOPs/image', 'share of peak', 'saved MiB/image',
           'MiB reduced', 'peak MiB')


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Args:
        name: what was changed since the row above.
        plain: the host's own parts.
        lean: the last block for the class token only, where the method reads nothing else.
        hooks: hooks that change the model.
        frozen: blocks that do not train.
    """

    name: str
    plain: bool = False
    lean: bool = False
    hooks: tuple = ()
    frozen: int = 0


def variants(method: str, blocks: int, compiled: bool = True) -> list[Variant]:
    """The rows of a method's table; what is added stays."""
    rows, hooks, lean = [Variant('plain host', plain=True), Variant('mm_graft as its config is')], (), False
    if method == 'MoCo v3':
        lean = True
        rows.append(Variant('+ class token only in the last block', lean=lean))
    hooks += (CHANNELS_LAST, )
    rows.append(Variant('+ channels-last patch embedding', lean=lean, hooks=hooks))
    if compiled:
        hooks += (COMPILE, )
        rows.append(Variant('+ compiled blocks', lean=lean, hooks=hooks))
    most = blocks - 1 if method == 'LocalMIM' else blocks  # its last decoder needs a block that learns
    depths = sorted({blocks // 3, 2 * blocks // 3, most})
    return rows + [Variant(f'{depth} of {blocks} blocks frozen', False, lean, hooks, depth) for depth in depths]


def config_of(cfg: Config, method: str, variant: Variant, width: str, blocks: int, on_gpu: bool) -> Config:
    """A method's config for one row: its sizes, its parts, bf16 on a GPU and fp32 on a CPU."""
    dims, heads = WIDTHS[width]
    model = cfg.model
    model.backbone.arch = ConfigDict(embed_dims=dims, num_layers=blocks, num_heads=heads, feedforward_channels=4 * dims)
    model.neck['embed_dim' if method == 'MAE' else 'in_channels'] = dims
    cfg.custom_hooks = [dict(hook) for hook in variant.hooks]
    if variant.lean:
        model.backbone.class_token_only = True
    if not variant.plain:
        cfg.optim_wrapper.type = 'mm_graft.AutocastOptimWrapper' if on_gpu else 'OptimWrapper'
        return cfg
    cfg.model = host_model(model, method)
    cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16') if on_gpu else cfg.optim_wrapper.update(
        type='OptimWrapper')
    cfg.optim_wrapper.update(constructor='DefaultOptimWrapperConstructor', paramwise_cfg=None)
    return cfg


def host_model(model: ConfigDict, method: str) -> ConfigDict:
    """The method of the host's parts, as far as the host has them."""
    if method == 'MAE':
        model.backbone.type, model.head.type = 'MAEViT', 'MAEPretrainHead'
        model.neck.update(type='MAEPretrainDecoder', num_patches=model.neck.pop('grid')**2)
    elif method == 'MoCo v3':
        model.update(type='MoCoV3', base_momentum=0.01)
        model.backbone.update(type='MoCoV3ViT', stop_grad_conv1=True)
        model.pop('momentum')
    elif method == 'ConMIM':
        model.backbone.update(
            type='BEiTViT', out_type='raw', final_norm=True, use_abs_pos_emb=False, use_rel_pos_bias=False,
            use_shared_rel_pos_bias=True)
    return model


def markdown(method: str, rows: Sequence[tuple[str, dict]]) -> str:
    """A method's table.

    Args:
        method: its name.
        rows: name of each change, and what was measured (``mm_graft benchmark step``'s keys).
    """
    first = rows[0][1]
    lines = [f'### {method}', '', f'Batch {first["batch"]}, {first["img_size"]} pixels, {first["dtype"]}, '
             f'{first["device"]}, torch {first["torch"]}; largest matrix product '
             f'{first["matmul_peak_tflops"]:.3g} TFLOP/s.', '',
             '| ' + ' | '.join(COLUMNS) + ' |', '|---|' + '---:|' * (len(COLUMNS) - 1)]
    return '\n'.join([*lines, *('| ' + ' | '.join([name, *cells(row)]) + ' |' for name, row in rows), ''])


def cells(row: dict) -> list[str]:
    """The numbers of a row, in the order of the columns."""
    speed, (low, high) = row.get('speedup', 1.), row.get('speedup_quartiles', (1., 1.))
    memory = '–' if row['device'].startswith('cpu') else f'{row["peak_memory_mib"]:.0f}'
    return [f'{row["ms_per_step"]:.0f}', f'{row["images_per_s"]:.3g}', f'{speed:.2f} ({low:.2f}–{high:.2f})',
            f'{row["gflops_per_image"]:.1f}', f'{row["share_of_peak"]:.0%}',
            f'{row["saved_activation_mib_per_image"]:.1f}', f'{row["ddp_mib_per_step"]:.0f}', memory]


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
