"""Weight decay along half a cosine."""

from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF

from mm_graft.engine.schedulers.warmup_cosine import warmup_cosine
from mm_graft.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class CosineWeightDecay(_ParamScheduler):
    r"""Every group's weight decay goes from its own value to ``end_ratio`` times that; groups without any stay without.

    In step s of S its factor is :math:`r + \frac{1 - r}{2} (1 + \cos(\pi s / S))` for the ratio r.

    DINO, iBOT and DINOv2 go from 0.04 to 0.4 (``facebookresearch/dino@7c446df``, ``utils.py:cosine_scheduler``). The
    host's ``CosineAnnealingParamScheduler`` would take biases and norms, whose decay is 0, to the end value too.

    Args:
        end_ratio: weight decay at the end, as a multiple of that at the start.
        end: steps in all; the Runner's length if a config leaves it out.
        kwargs: as for mmengine's schedulers. ``convert_to_iter_based=True`` counts iterations.
    """

    closed_form = True

    def __init__(self, optimizer: object, end_ratio: float, end: int = INF, **kwargs) -> None:
        if end == INF:
            raise ValueError('CosineWeightDecay needs the length of the run; give `end`, or let the Runner fill it in')
        if end_ratio < 0:
            raise ValueError(f'end_ratio={end_ratio} is a multiple of the weight decay; choose one ≥ 0')
        self.end_ratio = end_ratio
        super().__init__(optimizer, 'weight_decay', end=end, **kwargs)
        if not any(self.base_values):
            raise ValueError('CosineWeightDecay multiplies the weight decay, but the optimizer has none; '
                             'give it `weight_decay`, or leave the schedule out')

    @classmethod
    def build_iter_from_epoch(cls, *args, end: int = INF, epoch_length: int, by_epoch: bool = True,
                              **kwargs) -> 'CosineWeightDecay':
        """Turn epochs into iterations; called by the registry for ``convert_to_iter_based=True``."""
        if not by_epoch:
            raise ValueError('convert_to_iter_based needs by_epoch=True; leave one of them out')
        return cls(*args, end=end * epoch_length, by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        factor = warmup_cosine(self.last_step, 0, self.end - self.begin, self.end_ratio)
        return [value * factor for value in self.base_values]
