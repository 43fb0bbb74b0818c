"""Tiny runs whose parameters are kept in shards by some processes, and the same runs of one process.

``run_all(folder, world_size, jobs)`` leaves ``folder/<name>.pth``: whole weights, and what each process holds. A job is
the name of a run, or (name, folder of another ``run_all``) to go on from the second checkpoint there.
"""

from pathlib import Path

import torch
import torch._dynamo  # once, not in every process
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from mm_graft.engine.speed.fully_sharded_runner import FullyShardedRunner
from mm_graft.sharding import full_state_dict, local_shard
from tests import one_process_runs
from tests.engine.freezing import freezeout_runs as tiny
from tests.tiny import mae_file

RESUMED_AT = 'epoch_2.pth'
ANCHOR = dict(type='mm_graft.WeightAnchor', weight=1e-2, max_depth=2)
GRAFT_OPTIMIZER = dict(
    constructor='mm_graft.GraftOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1), clip_grad=dict(max_norm=0.5))
GRAFT = one_process_runs.RUNS['graft'][0]
TWO_VIEWS = dict(views=2)
RUNS = {
    'mae': one_process_runs.RUNS['mae'],
    'graft': (GRAFT, TWO_VIEWS, []),
    'conmim': one_process_runs.RUNS['conmim'],
    'localmim': (tiny.localmim(), {}, []),
    'refiner': one_process_runs.RUNS['refiner'],
    'graft with frozen blocks': (GRAFT, TWO_VIEWS, []),
    'graft with recomputed blocks': (
        {**GRAFT, 'backbone': {**GRAFT['backbone'], 'with_cp': True, 'class_token_only': True}}, TWO_VIEWS, []),
    'mae with recomputed blocks': (tiny.mae(), {}, [dict(type='mm_graft.CheckpointBlocksHook')]),
    'mae with a bad gradient': (tiny.mae(), {}, [dict(type='mm_graft.NonFiniteGuardHook')]),
    'mae with compiled blocks': (tiny.mae(), {}, [dict(type='mm_graft.CompileBlocksHook', backend='aot_eager')]),
}
HOOKS = {
    'checkpoint': dict(type='mm_graft.SafeCheckpointHook', interval=1, max_keep_ckpts=5),
    'runtime_info': dict(type='mm_graft.DeferredInfoHook'),
}


class Losses(Hook):
    """Keeps what the log sees."""

    def before_train(self, runner):
        self.seen = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append({name: float(value) for name, value in outputs.items() if name != 'loss'})


def settings(name: str, folder: Path, world_size: int) -> dict:
    """Those of ``one_process_runs``; the graft has stages, AdamW in one kernel, clipping and an anchor besides."""
    kwargs = one_process_runs.settings(name, folder, world_size, RUNS)
    kwargs['experiment_name'] += 'sharded'
    kwargs['param_scheduler'] = None
    kwargs['default_hooks'] |= HOOKS
    if name.startswith('graft'):
        stages = [0, 1.0] if 'frozen' in name else [0.1, 1.0]
        kwargs['optim_wrapper'] = {**GRAFT_OPTIMIZER, 'paramwise_cfg': dict(stage_lr_mult=stages)}
    if name == 'graft':
        kwargs['custom_hooks'] = [{**ANCHOR, 'checkpoint': mae_file(folder / f'mae{get_rank()}.file')}]
    return kwargs


class BadGradient(Hook):
    """Spoils one gradient, in one process, before the fourth step."""

    def before_train(self, runner):
        backward = runner.optim_wrapper.backward

        def spoiled(loss, **kwargs):
            backward(loss, **kwargs)
            if runner.iter == 3 and get_rank() == get_world_size() - 1:
                local_shard(runner.model.backbone.layers[0].attn.qkv.weight.grad).fill_(torch.nan)

        runner.optim_wrapper.backward = spoiled


def elements(runner: Runner, count) -> dict[str, int]:
    """Elements of parameters and of the optimizer's state."""
    state = [value for kept in runner.optim_wrapper.optimizer.state.values() for value in kept.values()
             if isinstance(value, torch.Tensor) and value.ndim]
    return {'parameters': sum(count(parameter) for parameter in runner.model.parameters()),
            'optimizer': sum(count(value) for value in state)}


def run(name: str, folder: Path, world_size: int, resume_from: Path | None = None) -> None:
    kind = FullyShardedRunner if world_size > 1 else Runner
    kwargs = settings(name, folder, world_size)
    if resume_from is not None:
        name = f'{name} resumed'
        kwargs |= dict(resume=True, load_from=str(resume_from), work_dir=str(folder / name),
                       experiment_name=f'{kwargs["experiment_name"]} resumed')
    runner = kind(**kwargs, cfg=dict(runner_type='mm_graft.FullyShardedRunner'))
    losses = Losses()
    for hook in (one_process_runs.GlobalDraws(), losses, *([BadGradient()] if 'bad' in name else [])):
        runner.register_hook(hook)
    runner.train()
    weights = {key: value for key, value in full_state_dict(runner.model.state_dict()).items()
               if not key.endswith(one_process_runs.OF_A_PROCESS) and '.queue.' not in key}
    held = [None] * world_size
    mine = elements(runner, lambda tensor: local_shard(tensor).numel())
    if world_size > 1:
        distributed.all_gather_object(held, mine)
    if get_rank() == 0:
        torch.save({'weights': weights, 'held': held, 'all': elements(runner, torch.Tensor.numel),
                    'losses': losses.seen}, folder / f'{name}.pth')


def work(rank: int, folder: Path, world_size: int, port: int, jobs: list) -> None:
    with one_process_runs.one_of(world_size, rank, port):
        for job in jobs:
            name, other = (job, None) if isinstance(job, str) else job
            run(name, folder, world_size, other and other / name / RESUMED_AT)


def run_all(folder: Path, world_size: int, jobs: list) -> None:
    """Runs, one after the other, in processes of their own."""
    one_process_runs.in_group(work, folder, world_size, jobs)
