"""Tiny runs on some processes, with draws that are functions of the place in the global batch.

``run_all(folder, world_size)`` leaves ``folder/<name>.pth`` for each method: the weights after the run.
"""

import copy
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import distributed, nn
from torch.distributed.nn.functional import all_reduce

from mm_graft.process_group import leave_group
from tests.engine.freezing import freezeout_runs as tiny
from tests.models.selfsup import refiner_builders  # noqa: F401 (registers its data)
from tests.own_process import in_processes
from tests.tiny import refiner

GLOBAL_BATCH, STEPS = 4, 6


class GatheredBatchNorm(nn.BatchNorm1d):
    """What SyncBatchNorm computes, on CPUs too: PyTorch's own refuses them."""

    def forward(self, inputs):
        count = torch.tensor(float(len(inputs)))
        sums = torch.stack([inputs.sum(0), (inputs**2).sum(0)])
        if get_world_size() > 1:
            sums, count = all_reduce(sums), count * get_world_size()
        mean, square = sums / count
        normed = (inputs - mean) / (square - mean**2 + self.eps).sqrt()
        return normed if self.weight is None else normed * self.weight + self.bias


def gather_statistics(module: nn.Module) -> None:
    """Replace SyncBatchNorm by what can run here, below a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.SyncBatchNorm):
            new = GatheredBatchNorm(child.num_features, eps=child.eps, affine=child.affine)
            new.load_state_dict(child.state_dict())
            new.requires_grad_(all(param.requires_grad for param in child.parameters()))
            setattr(module, name, new)
        gather_statistics(child)


class GlobalDraws(Hook):
    """Lets ``torch.rand`` draw for the global batch and return the rows of this process."""

    original = staticmethod(torch.rand)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.generator = torch.Generator().manual_seed(runner.iter)
        torch.rand = self.rand

    def rand(self, *size, device=None, generator=None):
        size = tuple(size[0]) if isinstance(size[0], tuple | torch.Size) else size
        world_size = get_world_size()
        drawn = self.original(size[0] * world_size, *size[1:], generator=self.generator)
        return drawn[get_rank()::world_size]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        torch.rand = self.original


class Masks(Hook):
    """Draws, once, as a method draws a mask."""

    drawn = None

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.drawn = torch.rand(8)


def in_double(module, inputs, data):
    """What a preprocessor gives, in the precision of the model."""
    images = data['inputs']
    images = [image.double() for image in images] if isinstance(images, list | tuple) else images.double()
    return {**data, 'inputs': images}


LAYER_NORM = dict(type='LN')
OF_A_PROCESS = ('running_mean', 'running_var', 'num_batches_tracked')
RUNS = {
    'mae': (tiny.mae(), {}, []),
    'graft': (tiny.moco('mm_graft.GraftedMoCoV3', 'mm_graft.GraftViT'), dict(views=2), []),
    'conmim': ({**tiny.conmim(), 'neck': {**tiny.mlp(3), 'norm_cfg': LAYER_NORM, 'with_last_bn': False}},
               dict(views=2), []),
    'localmim with FreezeOut': (tiny.localmim(), {}, [dict(type='mm_graft.FreezeOutHook')]),
    'refiner': (refiner(dict(norm_cfg=dict(type='SyncBN'))), dict(type='mm_graft.CroppedNoise', length=8), []),
}


def settings(name: str, folder: Path, world_size: int, runs: dict = RUNS) -> dict:
    model, data, hooks = runs[name]
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(model))
    model.init_weights()
    gather_statistics(model)
    model.init_weights = lambda: None
    model.double()  # layer norm of a class token next to 0 makes much of rounding
    model.data_preprocessor.register_forward_hook(in_double)
    freezeout = dict(type='mm_graft.FreezeOutLR', by_epoch=False, t0=.5, schedule='linear', warmup=2)
    return dict(
        model=model, work_dir=str(folder / name), default_scope='mmpretrain', log_level='INFO',
        experiment_name=f'{name}{world_size}{folder.name}', launcher='pytorch' if world_size > 1 else 'none',
        env_cfg=dict(mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), dist_cfg=dict(backend='gloo')),
        train_dataloader=dict(
            batch_size=GLOBAL_BATCH // world_size, num_workers=0, dataset={'type': 'mm_graft.NoiseImages', **data},
            collate_fn=dict(type='default_collate'), sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=STEPS // 2),
        optim_wrapper=dict(constructor='mm_graft.GraftOptimWrapperConstructor', paramwise_cfg=dict(by_depth=True),
                           optimizer=dict(type='SGD', lr=1e-1, momentum=0.9)),
        param_scheduler=freezeout if hooks else None, custom_hooks=hooks, randomness=dict(seed=0, diff_rank_seed=True),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1), checkpoint=None,
                           rng=dict(type='mm_graft.RNGStateHook')))


def run(name: str, folder: Path, world_size: int) -> None:
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    runner = Runner(**settings(name, folder, world_size), cfg=dict(model_wrapper_cfg=wrapper))
    masks = Masks()
    runner.register_hook(masks)
    runner.register_hook(GlobalDraws())
    runner.train()
    weights = {key: value for key, value in tiny_state(runner.model).items()
               if not key.endswith(OF_A_PROCESS) and '.queue.' not in key}
    drawn = [None] * world_size
    if world_size > 1:
        distributed.all_gather_object(drawn, masks.drawn.tolist())
    if get_rank() == 0:
        torch.save({'weights': weights, 'masks': drawn}, folder / f'{name}.pth')


def tiny_state(model: nn.Module) -> dict:
    return getattr(model, 'module', model).state_dict()


@contextmanager
def one_of(world_size: int, rank: int, port: int) -> Iterator[None]:
    """Be one of several processes that a launcher has started on a CPU, or the only one."""
    if world_size > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR='127.0.0.1',
                          MASTER_PORT=str(port))
        torch.cuda.set_device = lambda device: None  # the host's launcher calls it on a CPU too
    yield
    if world_size > 1:
        leave_group()


def in_group(work: Callable, folder: Path, world_size: int, *arguments: object) -> None:
    """Do ``work(rank, folder, world_size, port, …)`` in so many processes of their own."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    in_processes(work, folder, world_size, port, *arguments, processes=world_size)


def work(rank: int, folder: Path, world_size: int, port: int) -> None:
    with one_of(world_size, rank, port):
        for name in RUNS:
            run(name, folder, world_size)


def run_all(folder: Path, world_size: int) -> None:
    """All runs, one after the other, in processes of their own."""
    in_group(work, folder, world_size)
