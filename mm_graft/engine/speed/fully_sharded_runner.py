"""Models too large for one device: parameters, gradients and optimizer in shards (PyTorch's FSDP2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel, convert_sync_batchnorm
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import Shard
from torch.optim import Optimizer

from mm_graft.depth import blocks_of, encoders_of
from mm_graft.registry import OPTIM_WRAPPERS, RUNNERS
from mm_graft.sharding import full_state_dict, refuse_sharding, shard_loaded_moments, shard_loaded_weights

PRECISIONS = {None: None, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


def blocks_to_shard(model: nn.Module) -> list[nn.Module]:
    """Transformer blocks of encoder, of its copies, and of decoders that are built from the same kind of block."""
    encoders = encoders_of(model)
    kinds = {type(block) for encoder in encoders for block in blocks_of(encoder)}
    # whose last block is not called as a whole leaves it to the root
    split = {blocks_of(encoder)[-1] for encoder in encoders if getattr(encoder, 'class_token_only', False)}
    return [module for module in model.modules() if type(module) in kinds and module not in split]


def even_shard(parameter: nn.Parameter, parts: int) -> Shard:
    """Cut along the first dimension that divides evenly; the first of all if none does."""
    return Shard(next((dim for dim, size in enumerate(parameter.shape) if size and size % parts == 0), 0))


def block_policy(param_dtype: str | None) -> MixedPrecisionPolicy:
    """In which precision blocks are gathered and computed; gradients are averaged in fp32."""
    if param_dtype not in PRECISIONS:
        raise ValueError(f'param_dtype={param_dtype!r} is unknown; choose one of {list(PRECISIONS)}')
    if param_dtype is None:
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    return MixedPrecisionPolicy(PRECISIONS[param_dtype], torch.float32, torch.float32)


def shard_model(model: nn.Module, param_dtype: str | None = None) -> nn.Module:
    """Shard a model that is equal in all processes, in place; names, shapes and state-dict keys stay.

    Each block is gathered for itself just before it runs, in ``param_dtype``, everything else with the whole model; the
    shards keep their precision, and gradients are averaged in fp32. What is loaded into the model from now on is cut by
    itself.
    """
    policy = block_policy(param_dtype)
    if param_dtype is not None and any(getattr(module, 'with_cp', False) for module in model.modules()):
        raise ValueError('with_cp=True recomputes blocks from inputs that are not cast to param_dtype; use '
                         'mm_graft.CheckpointBlocksHook, which recomputes within a block, or leave param_dtype out')
    size = get_world_size()
    options = dict(mesh=init_device_mesh(next(model.parameters()).device.type, (size, )), reshard_after_forward=True,
                   shard_placement_fn=partial(even_shard, parts=size))
    for block in blocks_to_shard(model):
        fully_shard(block, mp_policy=policy, **options)
    fully_shard(model, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False), **options)
    for module in model.modules():
        module.register_load_state_dict_pre_hook(shard_loaded_weights)
    return model


@contextmanager
def full_state(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Make the state dicts of model and optimizer full in the main process; a collective call."""
    weights, moments = full_state_dict(model.state_dict()), full_state_dict(optimizer.state_dict())
    handles = [model.register_state_dict_post_hook(lambda module, state, *_: state.update(weights)),
               optimizer.register_state_dict_post_hook(lambda optimizer, state: moments)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@RUNNERS.register_module()
class FullyShardedRunner(Runner):
    """The host's Runner, with parameters, gradients and optimizer state cut into one shard per process (FSDP2).

    ``runner_type='mm_graft.FullyShardedRunner'`` in a config is all that is needed; it works for algorithms around the
    encoders that :mod:`mm_graft.depth` knows. Names of parameters, optimizer groups, and checkpoints are those of any
    other run: a checkpoint is gathered by all processes and written by the main one, and one process, several with
    ``DistributedDataParallel`` or another number of shards go on from it. Started as a single process without a
    launcher it is the host's Runner.

    ``model_wrapper_cfg=dict(param_dtype='bfloat16')`` gathers and computes blocks in bf16, with shards, optimizer and
    averaging of gradients in fp32; everything outside the blocks stays in fp32 or under autocast.

    At the start the model is whole in each process once, for initialization. Averaged encoders of this package are
    moved shard by shard. What cannot work says so before the first iteration: averages of other kinds, the host's
    ``EMAHook``, gradient scalers, and hooks that need full parameters.
    """

    sharded = False

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Note the options; the model is cut once it is initialized."""
        options = dict(model_wrapper_cfg or {})
        if unknown := set(options) - {'param_dtype'}:
            raise ValueError(f'model_wrapper_cfg has {sorted(unknown)}; FullyShardedRunner knows param_dtype only')
        block_policy(options.get('param_dtype'))
        self.shard_options = options
        if not self.distributed:
            return super().wrap_model(None, model)
        model = model.to(get_device())
        sync_bn = self.cfg.get('sync_bn')
        return model if sync_bn is None else convert_sync_batchnorm(model, sync_bn)

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:
        """Initialize the model and cut it; the optimizer has to be built for the shards."""
        if not self.distributed or isinstance(optim_wrapper, OptimWrapper):
            return super().build_optim_wrapper(optim_wrapper)
        kind = optim_wrapper.get('type', 'OptimWrapper')
        if issubclass(OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind, AmpOptimWrapper):
            raise ValueError(f'{kind} has a gradient scaler, which FullyShardedRunner does not support; use '
                             'mm_graft.AutocastOptimWrapper, or model_wrapper_cfg=dict(param_dtype=\'bfloat16\')')
        super()._init_model_weights()
        self._shard()
        wrapper = super().build_optim_wrapper(optim_wrapper)
        wrapper.optimizer.register_load_state_dict_pre_hook(shard_loaded_moments)
        return wrapper

    def load_or_resume(self) -> None:
        """Cut the model, if no optimizer was built (validation, test), and load into the shards."""
        if self.distributed:
            self._shard()
        super().load_or_resume()

    def resume(self, filename: str, resume_optimizer: bool = True, resume_param_scheduler: bool = True,
               map_location: str = 'default') -> None:
        """As the host, but reading the state to the CPU."""
        if self.sharded and map_location == 'default':
            map_location = 'cpu'
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)

    def save_checkpoint(self, *args, **kwargs) -> None:
        """Gather model and optimizer in all processes; the main one writes."""
        if not self.sharded:
            return super().save_checkpoint(*args, **kwargs)
        with full_state(self.model, self.optim_wrapper.optimizer):
            super().save_checkpoint(*args, **kwargs)

    def _init_model_weights(self) -> None:
        if not self.sharded:
            super()._init_model_weights()

    def _shard(self) -> None:
        if self.sharded:
            return
        for hook in self.hooks:
            if isinstance(hook, EMAHook):
                refuse_sharding('EMAHook', 'FullyShardedRunner')
        for name, module in self.model.named_modules():
            if isinstance(module, BaseAveragedModel) and not getattr(module, 'supports_shards', False):
                refuse_sharding(f'{type(module).__name__} (`{name}`)', 'FullyShardedRunner')
        shard_model(self.model, **self.shard_options)
        self.sharded = True
