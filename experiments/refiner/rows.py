"""The rows of the experiment: what is trained on what, for how long, and what an image of it costs."""

import json
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from benchmarks.measure import count
from benchmarks.step import TrainingStep
from experiments import demo
from mm_graft.evaluation.report import write_json

HERE = Path(__file__).with_name('configs')
DEMO = Path(demo.__file__).with_name('configs')
CONFIGS = {'mae': DEMO / 'mae.py', 'graft': DEMO / 'graft.py', 'heads': HERE / 'heads.py',
           'refined': HERE / 'refined.py'}
LAST_BLOCK = 'model.backbone.out_indices=[5]'


@dataclass(frozen=True)
class Length:
    """Epochs of the experiment.

    Attributes:
        mae: of the MAE from which all start.
        heads: of stage i.
        refined: of stage ii.
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
        epochs: how long.
        options: overrides.
    """

    config: str
    epochs: int
    options: tuple[str, ...] = ()

    @property
    def warmup(self) -> float:
        """Epochs: an eighth of every training, however long."""
        return self.epochs / 8


def gflops(step: str, out: Path) -> float:
    """10⁹ operations per image of a step of a config, counted once and kept in ``out``."""
    cache = out / 'gflops.json'
    known = json.loads(cache.read_text()) if cache.is_file() else {}
    if step not in known:
        known[step] = count(TrainingStep(Config.fromfile(CONFIGS[step]), batch_size=2))['gflops_per_image']
        write_json(cache, known)
    return known[step]


def equal_epochs(config: str, length: Length, out: Path) -> int:
    """Epochs of another method that cost what the refiner costs on top of MAE; at least one."""
    cost = length.heads * gflops('heads', out) + length.refined * gflops('refined', out)
    return max(1, round(cost / gflops(config, out)))


def rows(length: Length, out: Path) -> dict[str, tuple[Step, ...]]:
    """Every encoder, and the trainings after MAE that lead to it.

    ``…_images``: as many images after MAE as the refiner sees. ``…_flops``: as many operations. A longer MAE is
    trained from its beginning, as its schedule depends on its length. ``one_head`` is the refiner with a head on the
    last block alone. A row that comes out as another is left out.
    """
    refiner = (Step('heads', length.heads), Step('refined', length.refined))
    planned = {
        'mae': (),
        'mae_images': (Step('mae', length.mae + length.refiner), ),
        'mae_flops': (Step('mae', length.mae + equal_epochs('mae', length, out)), ),
        'graft_images': (Step('graft', length.refiner), ),
        'graft_flops': (Step('graft', equal_epochs('graft', length, out)), ),
        'one_head': tuple(Step(step.config, step.epochs, (LAST_BLOCK, )) for step in refiner),
        'refined': refiner,
    }
    return {name: steps for index, (name, steps) in enumerate(planned.items())
            if steps not in list(planned.values())[:index]}


TITLES = {
    'mae': 'MAE', 'mae_images': 'MAE, longer: equal images', 'mae_flops': 'MAE, longer: equal FLOPs',
    'graft_images': 'graft: equal images', 'graft_flops': 'graft: equal FLOPs', 'one_head': 'refined, one head',
    'refined': 'refined, three heads'}
