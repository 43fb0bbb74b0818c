"""Continue a public ViT-S/14 on 1,500 images of CIFAR-10, rule by rule, and see what it wins there and forgets of
Fashion-MNIST, seed by seed.

Fetches weights and images. Trainings and scores that are finished are not repeated, an interrupted one resumes.
Results: docs/results/continuing.json; table and figure of docs/continue.md are made of it (--report-only).
"""

import argparse
from itertools import product
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from experiments.continuing.images import NEW, OLD, Domain, prepare_cifar10, read_cifar10, read_fashion_mnist
from experiments.continuing.report import collect, write_report
from experiments.continuing.rows import RATES, RULES, WEIGHTS, Row, score_file
from experiments.continuing.weights import prepare_weights
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json
from mm_graft.files import atomic_write

OWN_LIST = Path('data/continuing/own.txt')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rules', nargs='+', choices=list(RULES), default=list(RULES))
    parser.add_argument('--rates', type=float, nargs='+', default=RATES)
    parser.add_argument('--held-out', action='store_true', help='score on held-out training images, to choose rates')
    parser.add_argument('--report-only', action='store_true', help='only make table and figure of the results')
    parser.add_argument('--docs', type=Path, default=Path('docs'), help='folder of results, table and figure')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/continuing'))
    return parser.parse_args()


def prepare(own: Path) -> dict[str, Domain]:
    """Fetch weights and images, write the list of those to learn from, and return the labeled ones."""
    prepare_weights(WEIGHTS)
    root = prepare_cifar10(Path('data/cifar10'))
    names, new = read_cifar10(root)
    with atomic_write(own) as part:
        part.write_text(''.join(f'{root}/train/{name}\n' for name in names))
    return {NEW: new, OLD: read_fashion_mnist(Path('data/fashion_mnist'))}


def run(args: argparse.Namespace) -> None:
    """Train and score what is missing."""
    domains = prepare(OWN_LIST)
    part = 'held_out' if args.held_out else 'test'
    start = args.out / 'row_start.json'
    if not start.is_file():
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(start, {'rule': 'start', **score_file(WEIGHTS, domains, part)})
    for seed, rate, rule in product(args.seeds, args.rates, args.rules):
        Row(rule, rate, seed, args.out).run(domains, part)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(1)
    with guarded():
        init_default_scope('mmpretrain')
        MMLogger.get_current_instance().setLevel('ERROR')
        if not args.report_only:
            run(args)
        if args.held_out:
            return
        if not args.report_only:
            collect(args.out, args.docs)
        write_report(args.docs)


if __name__ == '__main__':
    main()
