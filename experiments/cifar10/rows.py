"""The rows of the experiment on CIFAR-10: what is trained on what, how long, and what that costs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

FROZEN = ('optim_wrapper.paramwise_cfg.stage_lr_mult=[0,0,1]', )


class Row(NamedTuple):
    """One method.

    Attributes:
        title: its name in the tables.
        config: of experiments/cifar10/configs.
        share: of the scale's epochs; 0 leaves the initial weights.
        below: the row whose encoder it starts from.
        like: instead of ``share``: it trains for as many epochs as all of its steps then cost what this row costs.
        beside: the step on top of this one, whose cost counts too.
        repeated: trained with every seed, not with the first alone.
        pools: features that are evaluated.
        stops: shares of its epochs after which it is evaluated as a run that stopped early.
        options: overrides of the config.
    """

    title: str
    config: str
    share: float = 1.0
    below: str | None = None
    like: str | None = None
    beside: str | None = None
    repeated: bool = False
    pools: Sequence[str] = ('cls',)
    stops: Sequence[float] = ()
    options: Sequence[str] = ()


ROWS = {
    'random': Row('random weights', 'mocov3', 0, pools=('cls', 'avg')),
    # at equal images seen
    'mae-half': Row('MAE, half as long', 'mae', 0.5, repeated=True),
    'mae2mocov3': Row('graft', 'mae2mocov3', 0.5, 'mae-half', repeated=True),
    'mae2mocov3_frozen': Row('MIM→CL, frozen', 'mae2mocov3', 0.5, 'mae-half', repeated=True, options=FROZEN),
    'mae': Row('MIM (MAE)', 'mae', repeated=True, pools=('cls', 'avg')),
    'mocov3': Row('CL (MoCo v3)', 'mocov3', repeated=True),
    'joint': Row('joint MIM and CL', 'joint', repeated=True),
    'mocov3-half': Row('MoCo v3, half as long', 'mocov3', 0.5, repeated=True),
    'mocov32mae_frozen': Row('CL→MIM, frozen', 'mocov32mae_frozen', 0.5, 'mocov3-half', repeated=True),
    # local losses and freezing
    'localmim': Row('LocalMIM', 'localmim', pools=('avg',), stops=(1 / 3, 1 / 2, 2 / 3, 5 / 6)),
    'localmim_freezeout': Row('LocalMIM + FreezeOut, t0 = 0.65', 'localmim_freezeout', pools=('avg',)),
    'localmim_freezeout-05': Row('LocalMIM + FreezeOut, t0 = 0.5', 'localmim_freezeout', pools=('avg',),
                                 options=('param_scheduler.t0=0.5',)),
    'localmim_freezeout-unscaled': Row('LocalMIM + FreezeOut, t0 = 0.65, unscaled', 'localmim_freezeout',
                                       pools=('avg',), options=('param_scheduler.lr_scaling=unscaled',)),
    'conmim': Row('ConMIM', 'conmim', pools=('cls', 'avg')),
    # at the FLOPs of MoCo v3
    'mae-rest': Row('MAE below the graft at equal FLOPs', 'mae', like='mocov3', beside='mae2mocov3'),
    'graft-flops': Row('graft at equal FLOPs', 'mae2mocov3', 0.5, 'mae-rest'),
    'frozen-flops': Row('MIM→CL, frozen', 'mae2mocov3', below='mae-rest', like='mocov3', options=FROZEN),
    'mae-flops': Row('MIM (MAE) at equal FLOPs', 'mae', like='mocov3', repeated=True),
    'joint-flops': Row('joint MIM and CL', 'joint', like='mocov3'),
    'cl2mim-flops': Row('CL→MIM, frozen', 'mocov32mae_frozen', below='mocov3-half', like='mocov3'),
    # what decides: the rates of the stages, the length of MAE
    'graft-one-rate': Row('graft, one rate for all stages', 'mae2mocov3', 0.5, 'mae-half',
                          options=('optim_wrapper.paramwise_cfg.stage_lr_mult=[1,1,1]', )),
    'graft-long': Row('graft on MAE at equal FLOPs', 'mae2mocov3', 0.5, 'mae-flops', repeated=True),
    'mocov3-long': Row('MoCo v3, as many FLOPs as that graft', 'mocov3', like='graft-long', repeated=True),
    # nearer the paper's 1600 epochs of MAE below 300 of contrast
    'mae-ten': Row('MAE, ten times as long', 'mae', 10, repeated=True, pools=('cls', 'avg')),
    'graft-ten': Row('graft on MAE ten times as long', 'mae2mocov3', below='mae-ten', repeated=True,
                     pools=('cls', 'avg')),
    'mocov3-ten': Row('MoCo v3, as many FLOPs as that graft', 'mocov3', like='graft-ten', repeated=True,
                      pools=('cls', 'avg')),
}
EQUAL_IMAGES = ('mae', 'mocov3', 'joint', 'mocov32mae_frozen', 'mae2mocov3_frozen', 'mae2mocov3')
EQUAL_FLOPS = ('mae-flops', 'mocov3', 'joint-flops', 'cl2mim-flops', 'frozen-flops', 'graft-flops')
WHY = ('mae-half', 'mae-rest', 'mae-flops', 'mocov3-half', 'mae2mocov3', 'graft-one-rate', 'graft-flops', 'graft-long',
       'mocov3-long')
LONG = ('random', 'mocov3', 'mae-ten', 'graft-ten', 'mocov3-ten')
LOCAL = ('localmim', 'localmim_freezeout', 'localmim_freezeout-05', 'localmim_freezeout-unscaled')
PIXELS_OR_CONTRAST = ('mae', 'conmim')


class Job(NamedTuple):
    """A row with a seed."""

    row: str
    seed: int


def plan(rows: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every row with the first seed, then the repeated ones with the others; rows below come first.

    Raises:
        ValueError: an unknown row.
    """
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise ValueError(f'rows {unknown} are unknown; choose from {list(ROWS)}')
    wanted = {name for row in rows for name in needed(row)}
    ordered = [name for name in ROWS if name in wanted]
    return [Job(name, seed) for index, seed in enumerate(seeds) for name in ordered
            if index == 0 or ROWS[name].repeated]


def needed(name: str) -> list[str]:
    """A row and those below it, the lowest first."""
    row = ROWS[name]
    return [*(needed(row.below) if row.below else ()), name]


class Costs:
    """Length and floating point operations of the rows of one size.

    Args:
        epochs: those of a method in one step.
        images: of an epoch.
        gflops_per_image: of a row in training, as it is counted for its config.
    """

    def __init__(self, epochs: int, images: int, gflops_per_image: Callable[[str], float]) -> None:
        self.base_epochs, self.images, self.gflops_per_image = epochs, images, gflops_per_image

    def epochs(self, name: str) -> int:
        """Epochs of a row's own step."""
        row = ROWS[name]
        if row.like is None:
            return round(row.share * self.base_epochs)
        others = sum(self.step_tflops(other) for other in [*needed(name)[:-1], *([row.beside] if row.beside else ())])
        return round((self.tflops(row.like) - others) / (self.images * self.gflops_per_image(name) / 1000))

    def step_tflops(self, name: str) -> float:
        """10¹² operations of a row's own step."""
        return self.epochs(name) * self.images * self.gflops_per_image(name) / 1000

    def tflops(self, name: str) -> float:
        """10¹² operations of a row with what lies below it."""
        return sum(self.step_tflops(step) for step in needed(name))
