"""The experiment in one size: which jobs are done, and how one is trained and evaluated."""

import time
from pathlib import Path

import torch

from experiments.cifar10.rows import ROWS, Costs, Job
from experiments.cifar10.scores import evaluate_checkpoints, tuned_protocol
from experiments.cifar10.sizes import CONFIGS, EPOCHS, IMAGES, as_options, overrides, read_config
from experiments.costs import gflops_per_image
from experiments.training import last_checkpoint, last_epoch, run_training, save_initial_weights, train_command


class Reproduction:
    """Runs of one size in a folder.

    Args:
        scale: the size.
        out: the folder.
        deadline: when to stop, of ``time.monotonic``.
        commit: what is checked out; noted beside every run.
    """

    def __init__(self, scale: str, out: Path, deadline: float | None = None, commit: str = 'unknown') -> None:
        self.scale, self.out, self.deadline, self.commit = scale, out, deadline, commit
        self.costs = Costs(EPOCHS[scale], IMAGES[scale], self.gflops)

    def gflops(self, name: str) -> float:
        """Counted operations of a row, per image."""
        row = ROWS[name]
        return gflops_per_image(' '.join([row.config, *row.options]), read_config(row.config, self.scale), row.options,
                                self.out / 'gflops.json')

    def folder(self, job: Job) -> Path:
        """Where a job's checkpoints and reports are."""
        return self.out / job.row / f'seed{job.seed}'

    def is_trained(self, job: Job) -> bool:
        """Whether a job has its last checkpoint."""
        folder = self.folder(job)
        return (folder / 'last_checkpoint').is_file() and last_epoch(folder) >= self.costs.epochs(job.row)

    def is_done(self, job: Job) -> bool:
        """Whether a job is trained and evaluated."""
        return self.is_trained(job) and all(path.is_file() for path, *_ in self.evaluations(job))

    def evaluations(self, job: Job) -> list[tuple[Path, Path, str]]:
        """Report, checkpoint and pooling of everything about a job that is evaluated on frozen features."""
        folder, epochs = self.folder(job), self.costs.epochs(job.row)
        row = ROWS[job.row]
        stops = sorted({round(share * epochs) for share in row.stops if job.seed == 0} | {epochs})
        return [(folder / f'epoch{stop}-{pool}.json', folder / f'epoch_{stop}.pth', pool)
                for stop in stops for pool in row.pools]

    def command(self, job: Job) -> list[str]:
        """The command that trains a job."""
        row = ROWS[job.row]
        options = [*as_options(overrides(row.config, self.scale)), f'train_cfg.max_epochs={self.costs.epochs(job.row)}',
                   'default_hooks.logger.interval=13', *row.options]
        if not row.stops:
            options.append('default_hooks.checkpoint.max_keep_ckpts=1')
        if row.below:
            options.append(f'default_hooks.init.checkpoint={last_checkpoint(self.folder(Job(row.below, job.seed)))}')
        amp = ['--amp'] if torch.cuda.is_available() else []
        return train_command(CONFIGS / f'{row.config}.py', self.folder(job), job.seed, options, flags=amp)

    def train(self, job: Job) -> None:
        """Train a job to its end; its seconds add up over interruptions."""
        folder, row = self.folder(job), ROWS[job.row]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'commit.txt').write_text(self.commit)
        if row.share == 0:
            save_initial_weights(read_config(row.config, self.scale), folder, job.seed)
            return
        start = time.time()
        try:
            run_training(self.command(job), folder / 'train.log', f'{job.row} {job.seed}', self.costs.epochs(job.row),
                         self.deadline)
        finally:
            note = folder / 'seconds.txt'
            before = float(note.read_text()) if note.is_file() else 0.0
            note.write_text(f'{before + time.time() - start:.1f}')

    def evaluate(self, job: Job) -> None:
        """Frozen-feature protocols of a job's checkpoints."""
        cfg = read_config(ROWS[job.row].config, self.scale)
        places = [place for place in self.evaluations(job) if not place[0].is_file()]
        evaluate_checkpoints(cfg, places, self.out / 'features', job.seed)

    def tune(self, job: Job, protocol: str) -> None:
        """A protocol that trains the encoder."""
        path = self.folder(job) / f'{protocol}.json'
        if not path.is_file():
            cfg = read_config(ROWS[job.row].config, self.scale)
            checkpoint = last_checkpoint(self.folder(job))
            tuned_protocol(path, cfg, checkpoint, self.scale, job.seed)
