"""Evaluate a checkpoint: kNN, linear probing, few-shot and depth protocols in one pass → JSON, a table, a plot."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mm_graft.commands.arguments import (
    add_encoder,
    add_overrides,
    at_least_one,
    check_files,
    device,
    positive,
    share,
    target_folder,
    whole,
)
from mm_graft.commands.configs import add_checkpoint, config_for
from mm_graft.commands.labeled import add_labeled, use_labeled
from mm_graft.commands.meeting import meet

if TYPE_CHECKING:
    from mmengine.config import Config

    from mm_graft.evaluation.frozen import EvaluationSettings

PROTOCOLS = (
    'knn', 'linear', 'fewshot-1', 'shots', 'linear-augmented', 'linear-dinov2', 'alf', 'probe-depth', 'zero-shot')
LINEAR = ('linear', 'linear-augmented', 'probe-depth')
TRAINED = (*LINEAR, 'linear-dinov2', 'alf')
POOLED = ('knn', *LINEAR, 'fewshot-1', 'shots', 'zero-shot')  # one feature an image, behind the final norm
OF_PROTOCOLS = {  # options that only some protocols read
    'ks': ('knn', ), 'temperature': ('knn', ), 'standardize': ('knn', ),
    'linear_epochs': TRAINED, 'linear_batch_size': TRAINED, 'batch_norm': LINEAR, 'lr_as_released': LINEAR,
    'fewshot_list': ('fewshot-1', ), 'fewshot_share': ('fewshot-1', ), 'fewshot_per_class': ('fewshot-1', ),
    'shots': ('shots', ), 'blocks': ('probe-depth', ),
    **dict.fromkeys(('seeds', 'seed'), (*TRAINED, 'fewshot-1', 'shots')),
    'pool': POOLED, 'no_final_norm': (*POOLED, 'linear-dinov2')}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Checkpoint, data, and the settings of each protocol."""
    add_checkpoint(parser)
    add_labeled(parser)
    parser.add_argument('--protocols', nargs='+', default=['knn', 'linear', 'fewshot-1'], choices=PROTOCOLS,
                        help='what to measure, see docs/evaluation.md')
    parser.add_argument('--out', type=target_folder, help='folder for report.json, report.txt and report.png')
    add_encoder(parser)
    parser.add_argument('--pool', choices=('cls', 'avg'), default='cls', help='class token, or mean over the patches')
    parser.add_argument('--no-final-norm', action='store_true', help='features as they leave the last block')
    parser.add_argument('--crop-share', type=share, metavar='S', help='share of the short edge that the test transform '
                        'keeps (default: 224 / 256; CLIP: 1)')
    parser.add_argument('--cache', type=target_folder, default='work_dirs/features',
                        help='folder of extracted features')
    parser.add_argument('--batch-size', type=at_least_one, default=256, help='images encoded at once')
    parser.add_argument('--workers', type=whole, default=2, help='processes that read images')
    parser.add_argument('--device', type=device, help='of the encoder (default: a GPU where there is one)')
    parser.add_argument('--strict', action='store_true', help='stop at the first corrupt image')
    parser.add_argument('--seeds', type=at_least_one, default=1, help='repetitions of what is random')
    parser.add_argument('--seed', type=whole, default=0, help='the first seed')
    add_overrides(parser)
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none',
                        help='several processes encode the images together')
    add_protocol_arguments(parser)


def add_protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """Settings of one protocol each."""
    parser.add_argument('--ks', type=at_least_one, nargs='+', default=[20, 10, 100, 200],
                        help='kNN: neighbors; the first is the headline')
    parser.add_argument('--temperature', type=positive, default=0.07, help='kNN: of the votes')
    parser.add_argument('--standardize', action='store_true', help='kNN: features of mean 0 and deviation 1')
    parser.add_argument('--linear-epochs', type=at_least_one, default=90, help='linear: passes over the features')
    parser.add_argument('--linear-batch-size', type=at_least_one, default=4096, help='linear: features a step')
    parser.add_argument('--batch-norm', action='store_true', help='linear: an affine-free batch norm first')
    parser.add_argument('--select-on-test', action='store_true', help='linear: choose epoch and head on test images, '
                        'as the authors do; labeled in the report')
    parser.add_argument('--lr-as-released', type=at_least_one, metavar='WORLD_SIZE', help="linear: the authors' scale "
                        'of the learning rates, too large by this factor')
    fewshot = parser.add_mutually_exclusive_group()
    fewshot.add_argument('--fewshot-list', help='fewshot-1: file of images, see `mm_graft split`')
    fewshot.add_argument('--fewshot-share', type=share, default=0.01, help='fewshot-1: share to draw without a list')
    fewshot.add_argument('--fewshot-per-class', type=at_least_one, help='fewshot-1: images a class instead of a share')
    parser.add_argument('--shots', type=at_least_one, nargs='+', default=[1, 2, 5],
                        help='shots: images a class; the first is the headline')
    parser.add_argument('--class-embeddings', metavar='FILE', help='zero-shot: names and embeddings of the classes, '
                        'see docs/evaluation.md')
    parser.add_argument('--blocks', type=at_least_one, nargs='+', default=[], help='probe-depth: after which blocks '
                        '(default: half, three quarters and all of them)')


def check(args: argparse.Namespace) -> Config:
    """The config; the checkpoint exists."""
    check_files('class embeddings', *filter(None, [args.class_embeddings]))
    if bool(args.class_embeddings) != ('zero-shot' in args.protocols):
        raise ValueError('--class-embeddings FILE and --protocols zero-shot belong together; give both')
    for name, protocols in OF_PROTOCOLS.items():
        if getattr(args, name) != args.parser.get_default(name) and not set(protocols) & set(args.protocols):
            raise ValueError(f'--{name.replace("_", "-")} is for {", ".join(protocols)}, and --protocols is '
                             f'{", ".join(args.protocols)}; leave it out, or add one of these')
    check_files('few-shot list', *filter(None, [args.fewshot_list]))
    cfg = config_for(args.checkpoint, args.config, args.cfg_options)
    cfg.crop_share = args.crop_share
    learns = set(args.protocols) != {'zero-shot'}
    return use_labeled(cfg, args.labels or (None if learns else args.val), args.val)


def run(args: argparse.Namespace, cfg: Config) -> None:
    """Evaluate, and print the table on the main process."""
    import torch
    from mmengine.dist import init_dist

    from mm_graft.commands.components import explained
    from mm_graft.evaluation.evaluate import evaluate
    from mm_graft.evaluation.report import report_table
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    meet(args.launcher)
    if args.launcher != 'none' and args.device == 'cpu':
        torch.distributed.init_process_group('gloo')  # the host's launcher wants a GPU for every process
    elif args.launcher != 'none':
        init_dist(args.launcher)
    with explained(cfg):
        report = evaluate(cfg, args.checkpoint, settings_of(args), args.out)
    if report is not None:
        print(report_table(report))


def settings_of(args: argparse.Namespace) -> EvaluationSettings:
    """The arguments as the settings of an evaluation."""
    from mm_graft.evaluation.frozen import EvaluationSettings
    from mm_graft.evaluation.linear_probe import LinearProbeSettings
    from mm_graft.evaluation.protocols import ProtocolSettings
    linear = LinearProbeSettings(
        epochs=args.linear_epochs, batch_size=args.linear_batch_size, batch_norm=args.batch_norm, seed=args.seed,
        as_released=args.lr_as_released is not None, world_size=args.lr_as_released or 1)
    protocol = ProtocolSettings(
        ks=tuple(args.ks), temperature=args.temperature, standardize=args.standardize, linear=linear,
        select_on_test=args.select_on_test, seeds=args.seeds, fewshot_list=args.fewshot_list,
        fewshot_share=args.fewshot_share, fewshot_per_class=args.fewshot_per_class, shots=tuple(args.shots),
        class_embeddings=args.class_embeddings)
    return EvaluationSettings(
        protocols=args.protocols, branch=args.branch, resize=args.resize, pool=args.pool,
        final_norm=not args.no_final_norm, batch_size=args.batch_size, workers=args.workers,
        device=args.device, cache=args.cache, strict=args.strict, protocol=protocol, blocks=tuple(args.blocks))
