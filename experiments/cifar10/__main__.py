"""The papers' claim on CIFAR-10: every method trained and evaluated one after another, then tables and figures.

An interrupted call resumes; --minutes stops it in time. `full` is for a GPU, `cpu` a smaller version for one core,
`long` that with all images, an hour a seed.
Results: docs/results/cifar10_<scale>.json, with a page of tables and figures beside it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from experiments import training
from experiments.cifar10.prepare import write_lists
from experiments.cifar10.report import results_file, write_report, write_results
from experiments.cifar10.reproduction import Reproduction
from experiments.cifar10.rows import EQUAL_IMAGES, LONG, ROWS, Job, plan
from experiments.cifar10.sizes import IMAGES
from experiments.pages import commit
from experiments.training import ROOT, TOOLS, TimeUpError, last_checkpoint
from mm_graft.commands.running import guarded
from mm_graft.progress import Progress

DATA = Path('data/cifar10')
TUNED = ('fewshot-10', 'finetune')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scale', choices=IMAGES, default='full' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2], help='the first trains every row')
    parser.add_argument('--rows', nargs='+', metavar='ROW',
                        help='with what they start from; default: all in size `full`, else those on a long MAE')
    parser.add_argument('--tuned', nargs='*', choices=TUNED, help='protocols that train the encoder, for the six rows '
                        'at equal images; default: both in size `full`, else none')
    parser.add_argument('--tuned-seeds', type=int, nargs='+', default=[0], help='for which seeds')
    parser.add_argument('--minutes', type=float, help='stop after about as many; the next call resumes')
    parser.add_argument('--out', type=Path, help='default: work_dirs/reproduce/<scale>')
    parser.add_argument('--docs', type=Path, default=Path('docs'), help='folder of the report')
    parser.add_argument('--report-only', action='store_true',
                        help='tables and figures of the results that are in --docs')
    args = parser.parse_args()
    args.out = args.out or Path('work_dirs/reproduce') / args.scale
    full = args.scale == 'full'
    args.rows = args.rows or list(ROWS if full else LONG)
    args.tuned = args.tuned if args.tuned is not None else list(TUNED if full else ())
    return args


def prepare_data(scale: str) -> None:
    """Check that the images exist, and write the lists of the small size."""
    if not (DATA / 'train').is_dir():
        raise FileNotFoundError(f'{DATA}/train does not exist; python -m experiments.cifar10.prepare '
                                'cifar-10-binary.tar.gz makes it, and that module says where the archive is from')
    if scale == 'cpu':
        write_lists(DATA)


def show_plan(run: Reproduction, jobs: Sequence[Job], done_seconds: float, done_tflops: float) -> None:
    """Print how much is left, and about how long it takes at the pace so far."""
    left = sum(run.costs.step_tflops(job.row) for job in jobs)
    eta = f', about {left * done_seconds / done_tflops / 60:.0f} minutes of training' if done_tflops else ''
    Progress.write(f'{len(jobs)} runs left, {left:.0f} TFLOP{eta}')


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


def analyze(run: Reproduction, docs: Path, device: str) -> None:
    """Conflict of the joint run, attention distance of MAE, MoCo v3 and the graft, all with the first seed."""
    jobs = {name: Job(name, 0) for name in ('joint', 'mae', 'mocov3', 'mae2mocov3')}
    # each trained one: the config that its run has written, and its last checkpoint
    runs = {name: (run.folder(job) / f'{ROWS[name].config}.py', last_checkpoint(run.folder(job)))
            for name, job in jobs.items() if run.is_trained(job)}
    common = ['--device', device, '--out', docs / 'results' / f'cifar10_{run.scale}']
    commands = []
    if 'joint' in runs:
        commands.append(['conflict', *runs['joint'], '--names', 'joint MAE and MoCo v3', '--batches', '20',
                         '--batch-size', '128'])
    if {'mae', 'mocov3', 'mae2mocov3'} <= set(runs):
        commands.append(['attention-distance', *runs['mae'], '--also', *runs['mocov3'], '--also', *runs['mae2mocov3'],
                         '--count', '200', '--names', 'MAE', 'MoCo v3', 'graft'])
    for command in commands:
        training.run([sys.executable, TOOLS / 'analyze.py', *command, *common], stdout=subprocess.DEVNULL)


def run_all(run: Reproduction, args: argparse.Namespace) -> None:
    """Everything that was asked for and is not done."""
    jobs = plan(args.rows, args.seeds)
    do_jobs(run, jobs)
    for protocol in args.tuned:
        for job in jobs:
            if job.row in EQUAL_IMAGES and job.seed in args.tuned_seeds:
                if run.deadline is not None and time.monotonic() > run.deadline:
                    raise TimeUpError(protocol)
                Progress.write(f'{protocol} {job.row} {job.seed}')
                run.tune(job, protocol)


def main() -> None:
    args = parse_args()
    deadline = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    MMLogger.get_current_instance().setLevel('ERROR')  # not a line for each initialized parameter
    with guarded():
        if args.report_only:
            write_report(json.loads(results_file(args.docs, args.scale).read_text()), args.docs)
            return
        prepare_data(args.scale)
        run = Reproduction(args.scale, args.out, deadline, commit(ROOT))
        try:
            run_all(run, args)
        except TimeUpError as stopped:
            Progress.write(f'time is up in {stopped}; run this again to resume')
        results = write_results(run, args.docs)
        analyze(run, args.docs, 'cuda' if torch.cuda.is_available() else 'cpu')
        write_report(results, args.docs)


if __name__ == '__main__':
    main()
