"""How far a run is, for what changes along it inside a model."""

from mmengine.logging import MessageHub


def run_length(max_iters: int | None = None) -> int:
    """Iterations of the run: ``max_iters``, or those of the running Runner."""
    max_iters = max_iters or MessageHub.get_current_instance().runtime_info.get('max_iters')
    if max_iters is None:
        raise RuntimeError('the length of the run is not known; train through a Runner, or give max_iters')
    return max_iters


def run_iteration(otherwise: int = 0) -> int:
    """The running Runner's iteration, counted from 0; ``otherwise`` without one."""
    return MessageHub.get_current_instance().runtime_info.get('iter', otherwise)
