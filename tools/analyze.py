#!/usr/bin/env python
"""The papers' analyses of one or more checkpoints → a JSON file and a figure, both named after the command."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mm_graft.analysis import attention_distance, attention_map, gradient_conflict, patch_retrieval, tsne, vic
from mm_graft.analysis.data import balanced, image_batches, spread, training_batches
from mm_graft.analysis.reconstruction import load_model, read_images
from mm_graft.commands.arguments import Help, at_least_one
from mm_graft.commands.running import clean_errors, load_config
from mm_graft.encoders import Encoder, load_encoder, normalization_of, preprocessor_config
from mm_graft.evaluation.datasets import build_datasets, class_names, image_labels
from mm_graft.evaluation.features import encode
from mm_graft.gradients import terms_conflict


class Subject(NamedTuple):
    """One checkpoint that is looked at."""

    label: str
    cfg: Config
    checkpoint: str


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    for name, (function, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text, formatter_class=Help)
        command.add_argument('config', help='config of the pre-training')
        command.add_argument('checkpoint', help='a checkpoint of any layout that is known here; for `conflict` '
                             'a whole one of the config')
        command.add_argument('--also', nargs=2, action='append', default=[], metavar=('CONFIG', 'CHECKPOINT'),
                             help='another one in the same figure; may be repeated')
        command.add_argument('--labels', nargs='+', help='names in the figure, in order (default: of the configs)')
        command.add_argument('--out', type=Path, default=Path('work_dirs/analysis'), help='folder of JSON and figure')
        command.add_argument('--branch', choices=('base', 'momentum'), default='base',
                             help='which encoder of a contrastive checkpoint')
        command.add_argument('--batch-size', type=at_least_one, default=32, help='images at once')
        command.add_argument('--seed', type=int, default=0, help='of what is random: order of the images, masks, t-SNE')
        command.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='of the models')
        command.add_argument('--cfg-options', nargs='+', action=DictAction, help='overrides of all configs, key=value')
        OPTIONS[name](command)
        command.set_defaults(function=function)
    return parser.parse_args()


def training_options(command: argparse.ArgumentParser) -> None:
    command.add_argument('--batches', type=at_least_one, default=16, help='of the training data')
    command.add_argument('--workers', type=int, default=0, help='processes that read images')


def conflict_options(command: argparse.ArgumentParser) -> None:
    training_options(command)
    command.add_argument('--losses', nargs=2, default=['loss_pixels', 'loss_contrast'], metavar=('FIRST', 'SECOND'),
                         help='two terms of what the algorithm returns')


def image_options(command: argparse.ArgumentParser, count: int = 8) -> None:
    command.add_argument('--images', nargs='+', help='picture files; without them images of the test set')
    command.add_argument('--count', type=at_least_one, default=count, help='of the test set, evenly spread')


def map_options(command: argparse.ArgumentParser) -> None:
    image_options(command)
    command.add_argument('--block', type=int, default=-1, help='from 0, or negative from the end')


def retrieval_options(command: argparse.ArgumentParser) -> None:
    image_options(command, 32)
    command.add_argument('--query', type=int, nargs=2, default=[0, 0], metavar=('IMAGE', 'PATCH'),
                         help='index of the image, and of its patch in row-major order')
    command.add_argument('--neighbours', type=at_least_one, default=10, help='patches to find')


def tsne_options(command: argparse.ArgumentParser) -> None:
    command.add_argument('--classes', type=at_least_one, default=10, help='the first ones of the test set')
    command.add_argument('--per-class', type=at_least_one, default=50, help='images of each')
    command.add_argument('--perplexity', type=float, default=30.0, help='of t-SNE: about how many neighbours count')
    command.add_argument('--pool', choices=('cls', 'avg'), default='cls', help='class token, or mean over the patches')


def subjects_of(args: argparse.Namespace) -> list[Subject]:
    """What is looked at, each under a name of its own."""
    pairs = [(args.config, args.checkpoint), *args.also]
    stems = [Path(config).stem for config, _ in pairs]
    labels = args.labels or [stem if stems.count(stem) == 1 else f'{stem} {Path(checkpoint).stem}'
                             for stem, (_, checkpoint) in zip(stems, pairs)]
    if len(labels) != len(pairs) or len(set(labels)) != len(pairs):
        raise ValueError(f'{len(pairs)} checkpoints need as many different names, not {labels}; give --labels')
    return [Subject(label, load_config(config, args.cfg_options), checkpoint)
            for label, (config, checkpoint) in zip(labels, pairs)]


def encoders_of(args: argparse.Namespace, subjects: list[Subject]) -> dict[str, Encoder]:
    return {subject.label: load_encoder(subject.cfg, subject.checkpoint, args.branch).to(args.device)
            for subject in subjects}


def pixel_batches(args: argparse.Namespace, cfg: Config, encoder: Encoder) -> Iterator[Tensor]:
    """Images in 0…255, of the files or of the test set."""
    if args.images:
        pixels = torch.from_numpy(read_images(args.images, encoder.image_size)).permute(0, 3, 1, 2)
        yield from pixels.split(args.batch_size)
    else:
        _, dataset = build_datasets(cfg)
        indices = spread(len(dataset), args.count)
        yield from image_batches(dataset, indices, normalization_of(cfg)['to_rgb'], args.batch_size)


def all_pixels(args: argparse.Namespace, cfg: Config, encoder: Encoder) -> tuple[Tensor, np.ndarray]:
    """The same at once, (B, 3, H, W), and as pictures (B, H, W, 3)."""
    pixels = torch.cat(list(pixel_batches(args, cfg, encoder)))
    return pixels, pixels.permute(0, 2, 3, 1).byte().numpy()


def save(args: argparse.Namespace, models: dict, figure: object, **settings) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    content = {'analysis': args.command, 'seed': args.seed, **settings, 'models': models}
    (args.out / f'{args.command}.json').write_text(json.dumps(content, indent=1, allow_nan=False) + '\n')
    if figure is not None:
        figure.savefig(args.out / f'{args.command}.png', dpi=150)
    print(f'{args.out / args.command}.json and .png: {", ".join(models)}')


def conflict(args: argparse.Namespace, subjects: list[Subject]) -> None:
    init_default_scope(subjects[0].cfg.get('default_scope', 'mmpretrain'))
    batches = training_batches(subjects[0].cfg, args.batches, args.batch_size, args.workers, args.seed)
    found = {}
    for subject in subjects:
        model = load_model(subject.cfg, subject.checkpoint).to(args.device).train()
        torch.manual_seed(args.seed)

        def measure(batch: dict, model: torch.nn.Module = model) -> object:
            data = model.data_preprocessor(batch, True)
            return terms_conflict(model, lambda: model(**data, mode='loss'), tuple(args.losses))

        found[subject.label] = gradient_conflict.conflict_over_batches(model, measure, batches)
    models = {label: gradient_conflict.conflict_summary(cosines) for label, cosines in found.items()}
    save(args, models, gradient_conflict.draw_conflict(found), losses=args.losses, batch_size=args.batch_size,
         batches=len(batches))


def distance(args: argparse.Namespace, subjects: list[Subject]) -> None:
    found, count = {}, 0
    for subject, encoder in zip(subjects, encoders_of(args, subjects).values()):
        batches = list(pixel_batches(args, subjects[0].cfg, encoder))
        count = sum(map(len, batches))
        found[subject.label] = attention_distance.attention_distances(encoder.encode_pixels, batches, encoder.grid,
                                                                      encoder.patch_size)
    models = {label: {'per_block': result.per_block.tolist(), 'per_head': result.per_head.tolist(),
                      'mass_on_extra': result.mass_on_extra.mean((1, 2)).tolist()} for label, result in found.items()}
    figure = attention_distance.draw_attention_distance(
        {label: result.per_head.numpy() for label, result in found.items()})
    save(args, models, figure, images=count, unit='pixels')


def variance(args: argparse.Namespace, subjects: list[Subject]) -> None:
    encoders = encoders_of(args, subjects)
    first = next(iter(encoders.values()))
    preprocessor = MODELS.build({'type': 'SelfSupDataPreprocessor', **preprocessor_config(subjects[0].cfg)})
    preprocessor.to(args.device)
    batches = training_batches(subjects[0].cfg, args.batches, args.batch_size, args.workers, args.seed)
    views = [preprocessor(batch, True)['inputs'] for batch in batches]
    if not isinstance(views[0], list | tuple) or len(views[0]) < 2:
        raise ValueError('the training data of the first config give no two views; put a contrastive config first')
    pixels = [[first.denormalize(view) for view in pair[:2]] for pair in views]
    found = {label: vic.vic_by_block(encoder, encoder.encode_pixels, pixels)._asdict()
             for label, encoder in encoders.items()}
    values = {label: {name: term.cpu().numpy() for name, term in terms.items()} for label, terms in found.items()}
    models = {label: {name: term.tolist() for name, term in terms.items()} for label, terms in values.items()}
    save(args, models, vic.draw_vic(values), images=sum(len(pair[0]) for pair in views))


def plane(args: argparse.Namespace, subjects: list[Subject]) -> None:
    encoders = encoders_of(args, subjects)
    _, dataset = build_datasets(subjects[0].cfg)
    labels, bgr = image_labels(dataset), normalization_of(subjects[0].cfg)['to_rgb']
    chosen = balanced(labels, args.classes, args.per_class)
    points = {}
    for label, encoder in encoders.items():
        with torch.inference_mode():
            features = torch.cat([encode(encoder.backbone, encoder.normalize(pixels), args.pool).float().cpu()
                                  for pixels in image_batches(dataset, chosen, bgr,
                                                              args.batch_size)])
        points[label] = tsne.embed(features.numpy(), args.perplexity, args.seed)
    names = list(class_names(dataset)) or [str(index) for index in range(labels.max() + 1)]
    models = {label: {'points': places.tolist()} for label, places in points.items()}
    save(args, models, tsne.draw_points(points, labels[chosen], names), labels=labels[chosen].tolist(),
         perplexity=args.perplexity)


def maps(args: argparse.Namespace, subjects: list[Subject]) -> None:
    encoders = encoders_of(args, subjects)
    pixels, pictures = all_pixels(args, subjects[0].cfg, next(iter(encoders.values())))
    found = {label: attention_map.class_attention_maps(
        attention_map.attention_weights(encoder.encode_pixels, pixels, args.block), encoder.grid).cpu().numpy()
        for label, encoder in encoders.items()}
    save(args, {label: {'maps': values.tolist()} for label, values in found.items()}, None, block=args.block)
    attention_map.draw_attention_maps(pictures, found, args.out / f'{args.command}.png')


def retrieval(args: argparse.Namespace, subjects: list[Subject]) -> None:
    encoders = encoders_of(args, subjects)
    pixels, pictures = all_pixels(args, subjects[0].cfg, next(iter(encoders.values())))
    models = {}
    args.out.mkdir(parents=True, exist_ok=True)
    for index, (label, encoder) in enumerate(encoders.items()):
        with torch.inference_mode():
            tokens = torch.cat([encoder.patch_tokens(part) for part in pixels.split(args.batch_size)])
        found = patch_retrieval.nearest_patches(tokens, *args.query, args.neighbours)
        models[label] = {name: values.tolist() for name, values in found._asdict().items()}
        name = args.command if len(encoders) == 1 else f'{args.command}-{index + 1}'
        patch_retrieval.draw_neighbours(pictures, encoder.grid, tuple(args.query), found, args.out / f'{name}.png')
    save(args, models, None, query=args.query)


COMMANDS = {
    'conflict': (conflict, 'where the gradients of two losses conflict, per block (grafting, Figs. 1 and 8)'),
    'attention-distance': (distance, 'how far the heads look, per block (grafting, Fig. 7)'),
    'vic': (variance, 'variance, invariance and covariance of two views, per block (grafting, Fig. 6)'),
    'tsne': (plane, 'features of the test set in the plane (grafting, Fig. 3)'),
    'attention-map': (maps, 'what the class token attends to (ConMIM, Fig. 3)'),
    'patch-retrieval': (retrieval, 'patches of other images that are most like one (ConMIM, Fig. 4)'),
}
OPTIONS = {'conflict': conflict_options, 'vic': training_options, 'tsne': tsne_options, 'attention-map': map_options,
           'attention-distance': lambda command: image_options(command, 64), 'patch-retrieval': retrieval_options}


def main() -> None:
    args = parse_args()
    with clean_errors():
        args.function(args, subjects_of(args))


if __name__ == '__main__':
    main()
