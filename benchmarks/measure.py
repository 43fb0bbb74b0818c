"""Throughput of training steps: what they cost, how long they take, and what share of the device that is."""

import resource
import statistics
from argparse import Namespace
from collections.abc import Sequence

import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.benchmark import Timer

from benchmarks.clock import PhaseClock
from benchmarks.costs import count_flops, reduced_bytes, saved_bytes_per_image
from benchmarks.step import PHASES, TrainingStep
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.engine.speed.channels_last_hook import ChannelsLastHook
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook
from mm_graft.engine.speed.compile_blocks_hook import CompileBlocksHook
from mm_graft.engine.speed.model_hook import apply_configured

FEW = 2  # images for counting: batch norm needs two
MATMUL_SIDE = {'cuda': 8192, 'cpu': 1024}


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """FLOPs per second of a large square matrix product, the best of as many as fit into ``seconds``."""
    side = MATMUL_SIDE[device.type]
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    timer = Timer('torch.mm(left, right)', globals={'torch': torch, 'left': left, 'right': right},
                  num_threads=torch.get_num_threads())
    return 2 * side**3 / min(timer.blocked_autorange(min_run_time=seconds).times)


def measure_steps(cfgs: dict[str, Config], args: Namespace) -> dict:
    """Measure the step of a config, or of two in turns; the result is the first one's, with the other under ``vs``.

    Args:
        cfgs: by the names that stand in the result.
        args: ``batch``, ``img_size``, ``freeze``, ``steps``, ``warmup`` and ``device`` of ``mm_graft benchmark step``.
    """
    device = args.device or best_device()
    prepared = [prepare(cfg, args.batch, args.img_size, device, args.freeze) for cfg in cfgs.values()]
    steps = [step for step, _ in prepared]
    times = interleave(steps, args.steps, args.warmup)
    peak = matmul_peak(steps[0].device, steps[0].compute_dtype)
    results = [{'config': name, 'frozen_blocks': args.freeze, **report(step, costs, taken, peak)}
               for name, (step, costs), taken in zip(cfgs, prepared, times)]
    if len(results) > 1:
        results[0]['vs'] = {**compare(*times, [step.batch_size for step in steps]), 'other': results[1]}
    return results[0]


def prepare(cfg: Config, batch: int | None, img_size: int | None, device: str,
            frozen: int) -> tuple[TrainingStep, dict]:
    """A step of a config with its hooks that change the model, and what it costs."""
    step = TrainingStep(cfg, batch, img_size, device)
    if frozen:
        freeze_blocks(step.model, step.optim_wrapper.optimizer, frozen)
    hooks = cfg.get('custom_hooks')
    for kind in (ChannelsLastHook, CheckpointBlocksHook):
        apply_configured(step.model, hooks, kind)
    costs = count(step)
    costs['compiled_blocks'] = apply_configured(step.model, hooks, CompileBlocksHook)
    return step, costs


def best_device() -> str:
    """A GPU where there is one."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def count(step: TrainingStep) -> dict:
    """What a step costs per image, without timing it; a compiled model would hide its products, so count before."""
    def loss() -> Tensor:
        return step.loss(few)

    few = step.images(FEW)
    flops = count_flops(loss)
    step.optim_wrapper.zero_grad()
    saved = saved_bytes_per_image(step.model, step.loss_of, FEW)
    return {
        'gflops_per_image': flops / FEW / 1e9,
        'saved_activation_mib_per_image': saved / 2**20,
        'ddp_mib_per_step': reduced_bytes(step.model) / 2**20,
    }


def interleave(steps: Sequence[TrainingStep], number: int, warmup: int) -> list[list[dict[str, float]]]:
    """Milliseconds by phase of ``number`` steps of each, taken in turns, after ``warmup`` steps of each."""
    for step in steps:
        for _ in range(warmup):
            step.step(PhaseClock(step.device))
    clocks = [PhaseClock(step.device) for step in steps]
    for _ in range(number):
        for step, clock in zip(steps, clocks):
            step.step(clock)
    return [clock.steps() for clock in clocks]


def quartiles(values: Sequence[float]) -> list[float]:
    """First quartile, median, third quartile."""
    return statistics.quantiles(values, n=4, method='inclusive') if len(values) > 1 else [values[0]] * 3


def report(step: TrainingStep, costs: dict, times: list[dict[str, float]], peak: float) -> dict:
    """Everything about a measured step.

    Args:
        step: what ran.
        costs: what :func:`count` gave.
        times: milliseconds by phase, a dict a step.
        peak: FLOPs per second that the device reaches (:func:`matmul_peak`).
    """
    low, middle, high = quartiles([sum(phases.values()) for phases in times])
    rate = 1000 * step.batch_size / middle
    names = sorted({name for phases in times for name in phases}, key=[*PHASES, 'other'].index)
    return {
        'images_per_s': rate,
        'ms_per_step': middle,
        'ms_per_step_quartiles': [low, high],
        'phases_ms': {name: statistics.median(phases.get(name, 0.) for phases in times) for name in names},
        **costs,
        'share_of_peak': costs['gflops_per_image'] * 1e9 * rate / peak,
        'matmul_peak_tflops': peak / 1e12,
        'peak_memory_mib': peak_memory(step.device) / 2**20,
        'batch': step.batch_size,
        'img_size': step.size[0] if step.size[0] == step.size[1] else list(step.size),
        'dtype': str(step.compute_dtype).removeprefix('torch.'),
        'device': device_name(step.device),
        'steps': len(times),
        'compiled_graphs': compiled_graphs(),
        'torch': torch.__version__,
    }


def compare(ours: list[dict[str, float]], others: list[dict[str, float]], batches: tuple[int, int]) -> dict:
    """How many times as many images per second the first makes as the second, step by step of interleaved runs."""
    pairs = zip(ours, others)
    ratios = [(batches[0] / sum(own.values())) / (batches[1] / sum(other.values())) for own, other in pairs]
    low, middle, high = quartiles(ratios)
    return {'speedup': middle, 'speedup_quartiles': [low, high]}


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that tensors took on a GPU, or the process on a CPU, since it began."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def compiled_graphs() -> int:
    """Graphs that torch.compile has made so far in this process."""
    from torch._dynamo.utils import counters
    return counters['stats']['unique_graphs']


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name()
    return f'cpu ({torch.get_num_threads()} threads)'
