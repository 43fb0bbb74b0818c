#!/usr/bin/env python
"""The papers' claim on CIFAR-10: every method trained and evaluated one after another, then tables and figures.

Interrupted, it goes on where it was; --minutes stops it in time. `full` is for a GPU, `cpu` a smaller version for one
core. Results: docs/results/cifar10_<scale>.json with figures beside it, tables in docs/results.md.
"""

import argparse
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import nvml_check  # noqa: F401 - before torch
import torch
from mmengine.logging import MMLogger
from reproduce_costs import gflops_per_image
from reproduce_evaluate import evaluate_checkpoints, save_initial_weights, tuned_protocol
from reproduce_report import commit, write_report, write_results
from reproduce_rows import EQUAL_IMAGES, ROOT, ROWS, Costs, Job, plan, read_config
from tqdm import tqdm
from training_log import TimeUpError, last_checkpoint, last_epoch, run_forked

from mm_graft.commands.running import clean_errors
from mm_graft.evaluation.make_split import make_split

DATA = Path('data/cifar10')
IMAGES = {'full': 50000, 'cpu': 5000}
TUNED = ('fewshot-10', 'finetune')
STARTS = {'mae2mocov3': 'model.mim_checkpoint', 'mae2mocov3_frozen': 'model.mim_checkpoint',
          'mocov32mae_frozen': 'custom_hooks.0.checkpoint'}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scale', choices=IMAGES, default='full' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='the first trains every row')
    parser.add_argument('--rows', nargs='+', default=list(ROWS), metavar='ROW', help='with what they start from')
    parser.add_argument('--tuned', nargs='*', default=list(TUNED), choices=TUNED,
                        help='protocols that train the encoder, for the six rows at equal images')
    parser.add_argument('--tuned-seeds', type=int, nargs='+', default=[0], help='for which seeds')
    parser.add_argument('--minutes', type=float, help='stop after about as many; the next call goes on')
    parser.add_argument('--out', type=Path, help='default: work_dirs/reproduce/<scale>')
    parser.add_argument('--docs', type=Path, default=Path('docs'), help='folder of the report')
    parser.add_argument('--report-only', action='store_true', help='tables and figures of what is there')
    args = parser.parse_args()
    args.out = args.out or Path('work_dirs/reproduce') / args.scale
    return args


def prepare_data(scale: str) -> None:
    """See that the images are there, and write the lists of the small size."""
    if not (DATA / 'train').is_dir():
        raise FileNotFoundError(f'{DATA}/train does not exist; tools/prepare_cifar10.py cifar-10-binary.tar.gz makes '
                                'it, and configs/_base_/cifar10.py says where the data are from')
    for name in ('train', 'test') if scale == 'cpu' else ():
        path = DATA / 'meta' / f'{name}_{IMAGES[scale]}.txt'
        if not path.is_file():
            make_split(DATA / name, path, per_class=IMAGES[scale] // 10)


def run_tool(command: Sequence[str]) -> None:
    """Run one of the tools in this process."""
    sys.argv = list(command)
    runpy.run_path(command[0], run_name='__main__')


class Reproduction:
    """The experiment in one size: which jobs are done, and how to do one.

    Args:
        scale: its size.
        out: folder of the runs.
        deadline: when to stop, of ``time.monotonic``.
        commit: what is checked out; noted beside every run.
    """

    def __init__(self, scale: str, out: Path, deadline: float | None = None, commit: str = 'unknown') -> None:
        self.scale, self.out, self.deadline, self.commit = scale, out, deadline, commit
        self.costs = Costs(read_config('mae', scale).epochs, IMAGES[scale], self.gflops)

    def gflops(self, name: str) -> float:
        """Counted operations of a row, per image."""
        count = partial(gflops_per_image, name, self.scale, self.out / 'gflops.json')
        if not count(known_only=True):
            self.out.mkdir(parents=True, exist_ok=True)
            run_forked(count, self.out / 'gflops.log', f'counting {name}')
        return count(known_only=True)

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
        """What trains a job: tools/train.py and its arguments."""
        row = ROWS[job.row]
        options = [f'train_cfg.max_epochs={self.costs.epochs(job.row)}', f'randomness.seed={job.seed}',
                   'default_hooks.logger.interval=13', *row.options]
        if not row.stops:
            options.append('default_hooks.checkpoint.max_keep_ckpts=1')
        if row.below:
            options.append(f'{STARTS[row.config]}={last_checkpoint(self.folder(Job(row.below, job.seed)))}')
        amp = ['--amp'] if torch.cuda.is_available() else []
        config = ROOT / 'configs' / 'cifar10' / f'{row.config}.py'
        return [str(ROOT / 'tools' / 'train.py'), str(config), '--work-dir', str(self.folder(job)), '--resume', *amp,
                '--cfg-options', *options]

    def train(self, job: Job) -> None:
        """Train a job to its end; its seconds add up over interruptions."""
        folder, row = self.folder(job), ROWS[job.row]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'commit.txt').write_text(self.commit)
        if row.share == 0:
            run_forked(partial(save_initial_weights, read_config(row.config, self.scale), folder, job.seed),
                       folder / 'train.log', job.row)
            return
        start = time.time()
        try:
            run_forked(partial(run_tool, self.command(job)), folder / 'train.log', f'{job.row} {job.seed}',
                       self.costs.epochs(job.row), self.deadline)
        finally:
            note = folder / 'seconds.txt'
            before = float(note.read_text()) if note.is_file() else 0.0
            note.write_text(f'{before + time.time() - start:.1f}')

    def evaluate(self, job: Job) -> None:
        """Frozen-feature protocols of a job's checkpoints."""
        cfg = read_config(ROWS[job.row].config, self.scale)
        places = [place for place in self.evaluations(job) if not place[0].is_file()]
        if places:
            run_forked(partial(evaluate_checkpoints, cfg, places, self.out / 'features', job.seed),
                       self.folder(job) / 'evaluation.log', f'evaluation of {job.row}')

    def tune(self, job: Job, protocol: str) -> None:
        """A protocol that trains the encoder."""
        path = self.folder(job) / f'{protocol}.json'
        if not path.is_file():
            cfg = read_config(ROWS[job.row].config, self.scale)
            checkpoint = last_checkpoint(self.folder(job))
            run_forked(partial(tuned_protocol, path, cfg, checkpoint, self.scale, self.out / 'features', job.seed),
                       self.folder(job) / f'{protocol}.log', f'{protocol} of {job.row}')


def show_plan(run: Reproduction, jobs: Sequence[Job], done_seconds: float, done_tflops: float) -> None:
    """How much is left, and about how long it takes at the pace so far."""
    left = sum(run.costs.step_tflops(job.row) for job in jobs)
    eta = f', about {left * done_seconds / done_tflops / 60:.0f} minutes of training' if done_tflops else ''
    tqdm.write(f'{len(jobs)} runs left, {left:.0f} TFLOP{eta}')


def do_jobs(run: Reproduction, jobs: Sequence[Job]) -> None:
    """Train and evaluate what is not done yet."""
    left, seconds, tflops = [job for job in jobs if not run.is_done(job)], 0.0, 0.0
    while left:
        show_plan(run, left, seconds, tflops)
        job, start = left.pop(0), time.time()
        if not run.is_trained(job):
            run.train(job)
            seconds, tflops = seconds + time.time() - start, tflops + run.costs.step_tflops(job.row)
        run.evaluate(job)


def analyse(run: Reproduction, docs: Path, device: str) -> None:
    """Conflict of the joint run, attention distance of MAE, MoCo v3 and the graft, all with the first seed."""
    jobs = {name: Job(name, 0) for name in ('joint', 'mae', 'mocov3', 'mae2mocov3')}
    paths = {name: last_checkpoint(run.folder(job)) if run.is_trained(job) else None for name, job in jobs.items()}
    tool, configs = ROOT / 'tools' / 'analyze.py', ROOT / 'configs' / 'cifar10'
    common = ['--device', device, '--out', docs / 'results' / f'cifar10_{run.scale}']
    commands = []
    if paths['joint']:
        commands.append(['conflict', configs / 'joint.py', paths['joint'], '--labels', 'joint MAE and MoCo v3',
                         '--batches', '20', '--batch-size', '128'])
    if all(paths[name] for name in ('mae', 'mocov3', 'mae2mocov3')):
        others = [part for name in ('mocov3', 'mae2mocov3') for part in ('--also', configs / f'{name}.py', paths[name])]
        commands.append(['attention-distance', configs / 'mae.py', paths['mae'], *others, '--count', '200',
                         '--labels', 'MAE', 'MoCo v3', 'graft'])
    for command in commands:
        subprocess.run([sys.executable, tool, *command, *common], check=True, stdout=subprocess.DEVNULL)


def run_all(run: Reproduction, args: argparse.Namespace) -> None:
    """Everything that was asked for and is not done."""
    jobs = plan(args.rows, args.seeds)
    do_jobs(run, jobs)
    for protocol in args.tuned:
        for job in jobs:
            if job.row in EQUAL_IMAGES and job.seed in args.tuned_seeds:
                if run.deadline is not None and time.monotonic() > run.deadline:
                    raise TimeUpError(protocol)
                tqdm.write(f'{protocol} {job.row} {job.seed}')
                run.tune(job, protocol)


def main() -> None:
    args = parse_args()
    deadline = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    os.environ['CIFAR10_SCALE'] = args.scale  # for the processes that train and analyse
    tqdm.monitor_interval = 0  # no second thread: this process is copied
    MMLogger.get_current_instance().setLevel('ERROR')  # no line per parameter
    with clean_errors():
        prepare_data(args.scale)
        run = Reproduction(args.scale, args.out, deadline, commit(ROOT))
        if not args.report_only:
            try:
                run_all(run, args)
            except TimeUpError as stopped:
                tqdm.write(f'time is up in {stopped}; run this again to go on')
        results = write_results(run, args.docs)
        analyse(run, args.docs, 'cuda' if torch.cuda.is_available() else 'cpu')
        write_report(results, args.docs)


if __name__ == '__main__':
    main()
