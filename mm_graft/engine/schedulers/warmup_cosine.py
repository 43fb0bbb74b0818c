"""Linear warm-up from zero, then half a cosine."""

from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.param_scheduler import INF

from mm_graft.equations import half_cosine
from mm_graft.registry import PARAM_SCHEDULERS


def warmup_cosine(step: float, warmup: float, total: float, min_ratio: float = 0.0, from_zero: bool = True) -> float:
    r"""Factor of the learning rate, e = step.

    .. math:: e / W \;\text{ if } e < W, \quad \text{else } r + \frac{1 - r}{2} (1 + \cos(\pi (e - W) / (E - W)))

    MAE's and MoCo v3's schedule on fractional epochs (``facebookresearch/mae@efb2a80``, ``moco-v3@c349e6e``). Without
    ``from_zero`` the warm-up is (e + 1) / (W + 1), as in MIM-Refiner (``ml-jku/MIM-Refiner@cc574235995e``).
    """
    if step < warmup:
        return step / warmup if from_zero else (step + 1) / (warmup + 1)
    return min_ratio + (1 - min_ratio) * half_cosine(step - warmup, total - warmup)


def check_warmup(warmup: float, end: float, unit: str = 'epochs') -> None:
    """Check that a run is longer than its warm-up, in the unit in which the user wrote both."""
    if end <= 0:
        raise ValueError(f'a run of {end:g} {unit} trains nothing; set train_cfg.max_{unit}')
    if not 0 <= warmup < end:
        raise ValueError(f'param_scheduler.warmup={warmup:g} {unit} must be shorter than the run of {end:g} {unit}; '
                         'shorten it or train longer')


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(_ParamScheduler):
    """Warm-up and cosine as one closed form, per iteration or epoch, for every group around its own rate.

    The host's ``LinearLR`` cannot start at 0 and reaches its end one iteration early; two chained schedulers also
    cannot keep the ratios of the stages with an absolute minimum. Here every group keeps its ratio at every step.

    Args:
        warmup: steps (epochs if ``by_epoch``) of warm-up.
        end: steps in all; the Runner's length if a config leaves it out.
        min_ratio: what is left at the end, as a share of each group's rate.
        from_zero: begin the warm-up with 0; otherwise with the first of W + 1 equal steps, in the scheduler's unit.
        kwargs: as for mmengine's schedulers. ``convert_to_iter_based=True`` counts fractional epochs.
    """

    closed_form = True  # a value follows from settings and step alone

    def __init__(self, optimizer: object, warmup: int, end: int = INF, min_ratio: float = 0.0,
                 from_zero: bool = True, **kwargs) -> None:
        if end == INF:
            raise ValueError('WarmupCosineLR needs the length of the run; give `end`, or let the Runner fill it in')
        check_warmup(warmup, end, 'epochs' if kwargs.get('by_epoch', True) else 'iterations')
        if not 0 <= min_ratio <= 1:
            raise ValueError(f'min_ratio={min_ratio} is a share of the learning rate; choose one in [0, 1]')
        self.warmup = warmup
        self.min_ratio = min_ratio
        self.from_zero = from_zero
        super().__init__(optimizer, 'lr', end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(cls, *args, warmup: int, begin: int = 0, end: int = INF, epoch_length: int,
                              by_epoch: bool = True, **kwargs) -> 'WarmupCosineLR':
        """Turn epochs into iterations; called by the registry for ``convert_to_iter_based=True``."""
        if not by_epoch:
            raise ValueError('convert_to_iter_based needs by_epoch=True; leave one of them out')
        check_warmup(warmup, end)
        return cls(*args, warmup=warmup * epoch_length, begin=begin * epoch_length, end=end * epoch_length,
                   by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        factor = warmup_cosine(self.last_step, self.warmup, self.end - self.begin, self.min_ratio,
                               self.from_zero)
        return [value * factor for value in self.base_values]
