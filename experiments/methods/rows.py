"""The rows of the experiment: what is trained on what, for how long, and what an image of it costs."""

from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from experiments import demo
from experiments.costs import gflops_per_image

HERE = Path(__file__).with_name('configs')
DEMO = Path(demo.__file__).with_name('configs')
CONFIGS = {name: DEMO / f'{name}.py' for name in ('mae', 'mocov3', 'graft')} | {
    path.stem: path for path in sorted(HERE.glob('*.py'))}
ON_MAE = ('graft', 'graft_anchored', 'heads', 'refined')  # configs that start from MAE's encoder
STAGE_RATES = 'optim_wrapper.paramwise_cfg.stage_lr_mult'
LAST_BLOCK = 'model.backbone.out_indices=[5]'
STRONGER = 'custom_hooks.1.weight=1e-3'  # the anchor's, ten times as large


@dataclass(frozen=True)
class Length:
    """Epochs of the experiment.

    Attributes:
        mae: of the MAE on which the graft and the refiner stand.
        heads: of the refiner's stage i.
        refined: of its stage ii.
        images: for training.
    """

    mae: int = 8
    heads: int = 1
    refined: int = 1
    images: int = 60000

    @property
    def refiner(self) -> int:
        """Epochs that the refiner adds to MAE's."""
        return self.heads + self.refined


@dataclass(frozen=True)
class Step:
    """One training.

    Attributes:
        config: name out of ``CONFIGS``.
        epochs: how long; 0 leaves the initial weights.
        options: overrides.
    """

    config: str
    epochs: int
    options: tuple[str, ...] = ()

    @property
    def on_mae(self) -> bool:
        """Whether it starts from MAE's encoder."""
        return self.config in ON_MAE and self.epochs > 0

    @property
    def warmup(self) -> float:
        """Epochs: an eighth of every training, however long."""
        return self.epochs / 8

    def gflops(self, out: Path) -> float:
        """10⁹ operations per image, counted once and kept in ``out``."""
        label = ' '.join([self.config, *self.options])
        return gflops_per_image(label, Config.fromfile(CONFIGS[self.config]), self.options, out / 'gflops.json')


Row = tuple[Step, ...]


def rows(length: Length, out: Path) -> dict[str, Row]:
    """Every encoder, and the trainings that lead to it; those of ``ON_MAE`` start from the MAE of ``length.mae``.

    ``…_images``: as many images after MAE as the refiner sees, or without a MAE below as many contrastive images.
    ``…_flops``: as many operations in all as MAE and the refiner on it; so are ``joint``, ``localmim`` and ``conmim``.
    A longer or shorter MAE is trained from its beginning, as its schedule depends on its length; on that of
    ``mae_flops`` stands ``graft_longer``, on that of half the length ``graft_shorter``. ``one_head`` is the refiner
    with a head on the last block alone. A row that comes out as another is left out.
    """
    refiner = (Step('heads', length.heads), Step('refined', length.refined))
    added = sum(step.epochs * step.gflops(out) for step in refiner)
    total = length.mae * Step('mae', 1).gflops(out) + added

    def at_cost(config: str, gflops: float) -> Step:
        return Step(config, max(1, round(gflops / Step(config, 1).gflops(out))))

    graft = Step('graft', length.refiner)
    longer_mae, shorter_mae = at_cost('mae', total), Step('mae', max(1, length.mae // 2))
    local = at_cost('localmim', total)
    planned = {
        'random': (Step('graft', 0), ),
        'mae_shorter': (shorter_mae, ),
        'mae': (),
        'mae_images': (Step('mae', length.mae + length.refiner), ),
        'mae_flops': (longer_mae, ),
        'mocov3_images': (Step('mocov3', length.refiner), ),
        'mocov3_flops': (at_cost('mocov3', total), ),
        'graft_images': (graft, ),
        'graft_flops': (at_cost('graft', added), ),
        'graft_shorter': (shorter_mae, graft),
        'graft_longer': (longer_mae, graft),
        'graft_one_rate': (Step('graft', graft.epochs, (f'{STAGE_RATES}=[1,1,1]', )), ),
        'graft_frozen_third': (Step('graft', graft.epochs, (f'{STAGE_RATES}=[0,1,1]', )), ),
        'graft_frozen': (Step('graft', graft.epochs, (f'{STAGE_RATES}=[0,0,1]', )), ),
        'graft_anchored': (Step('graft_anchored', graft.epochs), ),
        'graft_anchored_more': (Step('graft_anchored', graft.epochs, (STRONGER, )), ),
        'one_head': tuple(Step(step.config, step.epochs, (LAST_BLOCK, )) for step in refiner),
        'refined': refiner,
        'joint': (at_cost('joint', total), ),
        'localmim': (local, ),
        'localmim_freezeout': (Step('localmim_freezeout', local.epochs), ),
        'conmim': (at_cost('conmim', total), ),
    }
    return {name: steps for index, (name, steps) in enumerate(planned.items())
            if steps not in list(planned.values())[:index]}


def put_encoder(cfg: Config, row: Row) -> Config:
    """A config of the encoder that all rows have but ConMIM's, whose ViT has parameters of its own, with the row's."""
    if row and row[-1].config == 'conmim':
        cfg.model.backbone = {**Config.fromfile(CONFIGS['conmim']).model.backbone, 'out_type': 'cls_token'}
    return cfg


def stands_on_mae(row: Row) -> bool:
    """Whether a row's first training starts from MAE's encoder, or is that MAE itself."""
    return not row or row[0].on_mae


def epochs_of(row: Row, length: Length) -> int:
    """Epochs of everything that leads to an encoder."""
    return (length.mae if stands_on_mae(row) else 0) + sum(step.epochs for step in row)


def cost(row: Row, length: Length, out: Path) -> float:
    """10⁹ operations per training image, all epochs of everything that leads to an encoder."""
    below = length.mae * Step('mae', 1).gflops(out) if stands_on_mae(row) else 0
    return below + sum(step.epochs * step.gflops(out) for step in row if step.epochs)


TITLES = {
    'random': 'random weights', 'mae_shorter': 'MAE, half as long', 'mae': 'MAE',
    'mae_images': 'MAE, longer: equal images', 'mae_flops': 'MAE, longer: equal FLOPs',
    'mocov3_images': 'MoCo v3: equal contrastive images', 'mocov3_flops': 'MoCo v3: equal FLOPs',
    'graft_images': 'graft', 'graft_flops': 'graft: equal FLOPs', 'graft_shorter': 'graft on MAE, half as long',
    'graft_longer': 'graft on MAE, longer: equal FLOPs', 'graft_one_rate': 'graft, one rate for all layers',
    'graft_frozen_third': 'graft, lower third frozen', 'graft_frozen': 'graft, lower two thirds frozen',
    'graft_anchored': 'graft, lower two thirds anchored', 'graft_anchored_more': 'graft, anchored ten times as much',
    'one_head': 'refined, one head', 'refined': 'refined, three heads', 'joint': 'MAE and MoCo v3 jointly',
    'localmim': 'LocalMIM', 'localmim_freezeout': 'LocalMIM + FreezeOut', 'conmim': 'ConMIM'}
