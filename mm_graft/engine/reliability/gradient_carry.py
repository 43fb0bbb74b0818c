"""Partly accumulated gradients are saved in checkpoints, so that a resumed run takes the same step.

With ``accumulative_counts=2`` an epoch of five iterations ends within a step. The host saves a checkpoint all the same,
and its resumed run takes that step with the gradients of one iteration instead of two.
"""

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from mm_graft.depth import unwrap
from mm_graft.sharding import full_tensor, shard_like, sharding_of

GRADIENTS = 'half_accumulated_gradients'
HOST_WARNING = 'the gradient of some iterations is lost'


def at_step(runner: Runner) -> bool:
    """Whether the last iteration completed an optimizer step."""
    wrapper = runner.optim_wrapper
    return isinstance(wrapper, OptimWrapperDict) or wrapper.should_update()


def gather_gradients(runner: Runner) -> dict[str, Tensor]:
    """Accumulated gradients by parameter name, on the CPU of the main process; a collective call.

    Replicas accumulate their own. They are replaced by the mean, also in the run, which does not change the step.
    """
    if at_step(runner):
        return {}
    parameters = {name: parameter for name, parameter in unwrap(runner.model).named_parameters()
                  if parameter.requires_grad}
    sharded = sharding_of(runner) is not None
    has_one = torch.tensor([parameter.grad is not None for parameter in parameters.values()], dtype=torch.uint8)
    all_reduce(has_one, 'max')
    gathered = {}
    for (name, parameter), some in zip(parameters.items(), has_one.tolist()):
        if not some:
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if not sharded:
            all_reduce(parameter.grad, 'mean')
        whole = full_tensor(parameter.grad) if sharded else parameter.grad.detach().cpu().clone()
        if is_main_process():
            gathered[name] = whole
    return gathered


def saved_gradients(runner: Runner, checkpoint: dict) -> dict[str, Tensor]:
    """The gradients in a checkpoint; where there are some, the host's warning that they are lost is not logged."""
    gradients = checkpoint.get(GRADIENTS) or {}
    if gradients:
        runner.logger.addFilter(lambda record: HOST_WARNING not in record.getMessage())
    return gradients


def restore_gradients(runner: Runner, gradients: dict[str, Tensor]) -> None:
    """Give parameters the accumulated gradients that a checkpoint holds."""
    parameters = dict(unwrap(runner.model).named_parameters())
    for name, gradient in gradients.items():
        if parameters[name].requires_grad:
            parameters[name].grad = shard_like(gradient.to(parameters[name].device), parameters[name])
    runner.logger.info('accumulated gradients restored from the checkpoint; the interrupted step continues')
