"""Leaving a step of the optimizer out.

MMEngine's hooks come after the step, and PyTorch's hooks of an optimizer come after clipping, which spreads one bad
gradient over all. So the two methods of the optimizer wrapper are wrapped between which the decision falls.
"""

from collections.abc import Callable
from functools import wraps

from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor


def has_scaler(wrapper: OptimWrapper) -> bool:
    """Whether a gradient scaler skips steps itself."""
    return isinstance(wrapper, AmpOptimWrapper)


def skips_on_device(wrapper: OptimWrapper) -> bool:
    """Whether the optimizer can leave a step out without the host knowing, as PyTorch's fused ones do for scalers."""
    return all(group.get('fused') for group in wrapper.optimizer.param_groups)


def guard_steps(wrapper: OptimWrapper, backward: Callable[[Tensor], None], judge: Callable[[], Tensor]) -> None:
    """Ask before each step whether to leave it out; a step that a gradient scaler takes is asked about, and taken.

    Args:
        wrapper: changed until :func:`unguard_steps`.
        backward: called with each loss that is differentiated.
        judge: called before each step; 0 or 1 on the device, 1 leaves it out.
    """
    run_backward, take_step = wrapper.backward, wrapper.step

    @wraps(run_backward)
    def noted_backward(loss: Tensor, **kwargs) -> None:
        backward(loss.detach())
        run_backward(loss, **kwargs)

    @wraps(take_step)  # with the mark by which MMEngine's schedules find that the steps are counted
    def judged_step(**kwargs) -> None:
        bad = judge()
        if not has_scaler(wrapper):
            if skips_on_device(wrapper):
                wrapper.optimizer.found_inf = bad.float()
            elif bad:
                return
        take_step(**kwargs)

    wrapper.backward, wrapper.step = noted_backward, judged_step


def unguard_steps(wrapper: OptimWrapper) -> None:
    """Undo :func:`guard_steps`."""
    for name in ('backward', 'step'):
        vars(wrapper).pop(name, None)
    vars(wrapper.optimizer).pop('found_inf', None)
