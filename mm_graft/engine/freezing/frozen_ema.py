"""Leaving a frozen prefix out of an exponential moving average once it has nothing left to copy."""

from collections.abc import Iterator
from typing import NamedTuple

from mmengine.model import BaseAveragedModel
from torch import Tensor, nn

from mm_graft.depth import DepthMap, find_backbone

TOLERANCE = 1e-5


class Copy(NamedTuple):
    """One averaged parameter: its average, its name there, its tensor, and what it copies."""

    average: BaseAveragedModel
    name: str
    copy: Tensor
    source: Tensor


def prefix_copies(model: nn.Module, depths: DepthMap, depth: int) -> list[Copy]:
    """Parameters at ``depth`` or below that moving averages inside a model still follow.

    It understands MMEngine's averages, which walk a plain dict ``avg_parameters``: what leaves that dict is no longer
    updated, and the state dict keeps every key.
    """
    backbone = find_backbone(model)[1]
    sources = dict(backbone.named_parameters())
    return [Copy(average, f'{prefix}{name}', average.avg_parameters[f'{prefix}{name}'].data, source.data)
            for average in model.modules() if isinstance(average, BaseAveragedModel)
            for prefix in _copies_of(backbone, average)
            for name, source in sources.items()
            if depths.depths[f'{depths.prefix}{name}'] <= depth and f'{prefix}{name}' in average.avg_parameters]


def _copies_of(backbone: nn.Module, average: BaseAveragedModel) -> Iterator[str]:
    for name, module in average.module.named_modules():
        if type(module) is type(backbone):
            yield f'{name}.' if name else ''


def has_converged(copy: Tensor, source: Tensor) -> bool:
    """Whether the two differ by at most 1e-5 of the source's largest value: about where an average in fp32 stalls.

    With a momentum m its increments round away once the difference is below some ε/2m of the value, so the two never
    become equal.
    """
    return bool((copy - source).abs().amax() <= TOLERANCE * source.abs().amax())


def stop_converged_averages(model: nn.Module, depths: DepthMap, depth: int) -> bool:
    """Sets the copies of the prefix equal to it and ends their averaging, if there are any and all have converged.

    The comparison reads from the device, so this is for the ends of epochs, not for every step.
    """
    copies = prefix_copies(model, depths, depth)
    if not copies or not all(has_converged(item.copy, item.source) for item in copies):
        return False
    for item in copies:
        item.copy.copy_(item.source)
        del item.average.avg_parameters[item.name]
    refresh_averages(model)
    return True


def refresh_averages(model: nn.Module) -> None:
    """Rebuild the lists of moving parameters of averages (``mm_graft.models.ema``)."""
    for average in model.modules():
        if hasattr(average, 'forget_pairs'):
            average.forget_pairs()


def stop_averages(model: nn.Module, depths: DepthMap, depth: int) -> None:
    """Ends the averaging of a prefix whose averages had converged before the run was resumed."""
    for item in prefix_copies(model, depths, depth):
        del item.average.avg_parameters[item.name]
