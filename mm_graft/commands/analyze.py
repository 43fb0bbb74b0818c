"""The papers' analyses of one or more checkpoints → a JSON file and a figure, both named after the analysis."""

import argparse
from functools import partial
from pathlib import Path

from mm_graft.commands.arguments import (
    add_encoder,
    add_overrides,
    at_least_one,
    check_files,
    device,
    positive,
    target_folder,
    whole,
)
from mm_graft.commands.configs import AnalyzedModel, add_checkpoint, config_for, run_name
from mm_graft.commands.labeled import add_labeled, use_labeled


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What all analyses take."""
    add_checkpoint(parser)
    parser.add_argument('--also', nargs='+', action='append', default=[], metavar='[CONFIG] CHECKPOINT',
                        help='another one in the same figure; may be repeated')
    parser.add_argument('--names', nargs='+', help='in the figure, in order (default: those of configs or runs)')
    parser.add_argument('--out', type=target_folder, default='work_dirs/analysis', help='folder of JSON and figure')
    add_encoder(parser)
    parser.add_argument('--batch-size', type=at_least_one, default=32, help='images at once')
    parser.add_argument('--seed', type=whole, default=0, help='of what is random: order of the images, masks, t-SNE')
    parser.add_argument('--device', type=device, help='of the models (default: a GPU where there is one)')
    add_overrides(parser)


def training_arguments(parser: argparse.ArgumentParser) -> None:
    """Batches of the training data."""
    add_arguments(parser)
    parser.add_argument('--batches', type=at_least_one, default=16, help='of the training data')
    parser.add_argument('--workers', type=whole, default=0, help='processes that read images')


def conflict_arguments(parser: argparse.ArgumentParser) -> None:
    """Which two losses."""
    training_arguments(parser)
    parser.add_argument('--losses', nargs=2, default=['loss_pixels', 'loss_contrast'], metavar=('FIRST', 'SECOND'),
                        help='two terms of what the algorithm returns')


def image_arguments(parser: argparse.ArgumentParser, count: int = 8) -> None:
    """Files, or images of the test set."""
    add_arguments(parser)
    add_labeled(parser)
    parser.add_argument('--images', nargs='+', help='picture files; without them images of the test set')
    parser.add_argument('--count', type=at_least_one, default=count, help='of the test set, evenly spread')


def map_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose attention."""
    image_arguments(parser)
    parser.add_argument('--block', type=int, default=-1, help='from 0, or negative from the end')


def retrieval_arguments(parser: argparse.ArgumentParser) -> None:
    """Which patch to look for."""
    image_arguments(parser, 32)
    parser.add_argument('--query', type=whole, nargs=2, default=[0, 0], metavar=('IMAGE', 'PATCH'),
                        help='index of the image, and of its patch in row-major order')
    parser.add_argument('--neighbors', type=at_least_one, default=10, help='patches to find')


def tsne_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images, and how t-SNE places them."""
    add_arguments(parser)
    add_labeled(parser)
    parser.add_argument('--classes', type=at_least_one, default=10, help='the first ones of the test set')
    parser.add_argument('--per-class', type=at_least_one, default=50, help='images of each')
    parser.add_argument('--perplexity', type=positive, default=30.0, help='of t-SNE: about how many neighbors count')
    parser.add_argument('--pool', choices=('cls', 'avg'), default='cls', help='class token, or mean over the patches')


def reconstruction_arguments(parser: argparse.ArgumentParser) -> None:
    """Which pictures to hide parts of."""
    add_arguments(parser)
    parser.add_argument('--images', nargs='+', required=True, help='picture files; their centers are used')
    parser.add_argument('--dpi', type=at_least_one, default=150, help='of the picture')


def segmentation_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images of the test set."""
    add_arguments(parser)
    parser.add_argument('--indices', type=whole, nargs='+', default=[0], help='of the test images')


def detection_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images of the test set, and how sure a detection must be."""
    segmentation_arguments(parser)
    parser.add_argument('--score', type=float, default=0.3, help='that a detection must have to be drawn')


def layers_arguments(parser: argparse.ArgumentParser) -> None:
    """How many labeled images."""
    add_arguments(parser)
    add_labeled(parser)
    parser.add_argument('--train-images', type=at_least_one, default=5000, help='to learn from, class-balanced')
    parser.add_argument('--test-images', type=at_least_one, default=2000, help='to score, class-balanced')
    parser.add_argument('--workers', type=whole, default=0, help='processes that read images')


def check(args: argparse.Namespace) -> list[AnalyzedModel]:
    """The configs; checkpoints and pictures exist."""
    if getattr(args, 'images', None) and (unused := [
            f'--{name}' for name in ('labels', 'val', 'count')
            if getattr(args, name, None) != args.parser.get_default(name)]):
        raise ValueError(f'{", ".join(unused)} says which images of a test set, and --images names others; leave one '
                         'out')
    entries = entries_of(args)
    check_files('picture', *(getattr(args, 'images', None) or ()))
    return entries


def run(name: str, args: argparse.Namespace, entries: list[AnalyzedModel]) -> None:
    """Compute, save and draw."""
    import torch

    from mm_graft.commands import analyses
    args.analysis = name
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    getattr(analyses, name.replace('-', '_'))(args, entries)


def entries_of(args: argparse.Namespace) -> list[AnalyzedModel]:
    """The models to analyze, under unique names."""
    if wrong := [words for words in args.also if len(words) > 2]:
        raise ValueError(f'--also {" ".join(wrong[0])}: give one checkpoint, or a config and a checkpoint; repeat '
                         '--also for more')
    given = [(None, *words)[-2:] for words in ([args.config, args.checkpoint], *args.also)]
    labeled = getattr(args, 'labels', None), getattr(args, 'val', None)
    pairs = [(use_labeled(config_for(checkpoint, config, args.cfg_options), *labeled), checkpoint)
             for config, checkpoint in given]
    stems = [run_name(cfg, checkpoint) for cfg, checkpoint in pairs]
    names = args.names or [stem if stems.count(stem) == 1 else f'{stem} {Path(checkpoint).stem}'
                           for stem, (_, checkpoint) in zip(stems, pairs)]
    if len(names) != len(pairs) or len(set(names)) != len(pairs):
        raise ValueError(f'{len(pairs)} checkpoints need as many different names, not {names}; give --names')
    return [AnalyzedModel(name, cfg, checkpoint) for name, (cfg, checkpoint) in zip(names, pairs)]


COMMANDS = {name: (text, arguments, check, partial(run, name)) for name, text, arguments in (
    ('conflict', 'where the gradients of two losses conflict, per block (grafting, Figs. 1 and 8)', conflict_arguments),
    ('attention-distance', 'how far the heads look, per block (grafting, Fig. 7)', partial(image_arguments, count=64)),
    ('vic', 'variance, invariance and covariance of two views, per block (grafting, Fig. 6)', training_arguments),
    ('layers', 'kNN, linear and RankMe of every block, with blocks to begin with: heads, graft, freezing',
     layers_arguments),
    ('tsne', 'features of the test set in the plane (grafting, Fig. 3)', tsne_arguments),
    ('attention-map', 'what the class token attends to (ConMIM, Fig. 3)', map_arguments),
    ('patch-retrieval', 'patches of other images that are most like one (ConMIM, Fig. 4)', retrieval_arguments),
    ('reconstruction', "what a masked-image model sees, hides and predicts: MAE's pixels, LocalMIM's HOG or pixels",
     reconstruction_arguments),
    ('segmentation', 'image, truth and predictions of segmentation checkpoints, a column each', segmentation_arguments),
    ('detection', 'image, truth, and boxes and masks of detection checkpoints, a column each', detection_arguments),
)}
