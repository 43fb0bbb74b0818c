"""What ``mm_graft analyze`` computes, saves and draws; :mod:`mm_graft.commands.analyze` defines its arguments."""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict

import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import Tensor, nn
from torch.utils.data import Dataset

from mm_graft.analysis import attention_distance as distances
from mm_graft.analysis import attention_map as maps
from mm_graft.analysis import detection_figure, gradient_conflict, reconstruction_figure, segmentation_figure
from mm_graft.analysis import patch_retrieval as retrieval
from mm_graft.analysis import tsne as plane
from mm_graft.analysis import vic as terms
from mm_graft.analysis.data import balanced, image_batches, training_batches
from mm_graft.analysis.layers import draw_layers, propose
from mm_graft.analysis.reconstruction import read_images, reconstruct, visible
from mm_graft.checkpoints.model_weights import load_model
from mm_graft.commands.configs import AnalyzedModel, check_test_data
from mm_graft.encoders import Encoder, load_encoder, normalization_of, patch_projection, preprocessor_config
from mm_graft.equations import evenly_spaced
from mm_graft.evaluation.datasets import build_datasets, check_two_classes, class_names, image_labels, reading_of
from mm_graft.evaluation.features import encode
from mm_graft.evaluation.layers import curves, features_of_blocks
from mm_graft.evaluation.report import save_figure
from mm_graft.evaluation.splits import at_most
from mm_graft.files import write_text
from mm_graft.gradients import terms_conflict

DPI = 150  # of figures


def encoders_of(args: Namespace, entries: list[AnalyzedModel]) -> dict[str, Encoder]:
    """The encoders, by name."""
    return {entry.label: load_encoder(entry.cfg, entry.checkpoint, args.branch, args.resize).to(args.device)
            for entry in entries}


def complete_model(args: Namespace, entry: AnalyzedModel) -> nn.Module:
    """The algorithm of an entry with all its weights, in eval mode."""
    model, line = load_model(entry.cfg, entry.checkpoint)
    print(f'{entry.label}: {line}')
    return model.to(args.device)


def pixel_batches(args: Namespace, cfg: Config, encoder: Encoder) -> Iterator[Tensor]:
    """Images (B, 3, H, W) in 0…255, of the files or of the test set."""
    if args.images:
        pixels = torch.from_numpy(read_images(args.images, encoder.image_size, encoder.num_channels, reading_of(cfg)))
        yield from pixels.permute(0, 3, 1, 2).split(args.batch_size)
    else:
        _, dataset = build_datasets(cfg)
        indices = evenly_spaced(len(dataset), args.count)
        yield from image_batches(dataset, indices, normalization_of(cfg)['to_rgb'], args.batch_size)


def all_pixels(args: Namespace, cfg: Config, encoder: Encoder) -> tuple[Tensor, np.ndarray]:
    """The same at once, (B, 3, H, W), and as pictures (B, H, W, 3)."""
    pixels = torch.cat(list(pixel_batches(args, cfg, encoder)))
    pictures = pixels.permute(0, 2, 3, 1)
    return pixels, visible((pictures if 'channels' in reading_of(cfg) else pictures.byte()).numpy())


def save(args: Namespace, models: dict, *figures: Figure, **settings) -> None:
    """Write the JSON and the figures, which are numbered if there are several."""
    content = {'analysis': args.analysis, 'seed': args.seed, **settings, 'models': models}
    write_text(args.out / f'{args.analysis}.json', json.dumps(content, indent=1, allow_nan=False) + '\n')
    for number, figure in enumerate(figures, 1):
        name = args.analysis if len(figures) == 1 else f'{args.analysis}-{number}'
        save_figure(figure, args.out / f'{name}.png', getattr(args, 'dpi', DPI))
    print(f'{args.out / args.analysis}.json and .png: {", ".join(models)}')


def _whole_model(args: Namespace) -> None:
    """Refuse ``--branch`` for analyses that run the whole model."""
    if args.branch != 'base':
        raise ValueError(f'--branch {args.branch} picks an encoder of a checkpoint, and {args.analysis} runs the whole '
                         'model; leave it out')


def conflict(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Cosines of the gradients of two losses."""
    _whole_model(args)
    init_default_scope(entries[0].cfg.get('default_scope', 'mmpretrain'))
    batches = training_batches(entries[0].cfg, args.batches, args.batch_size, args.workers, args.seed)
    found = {}
    for entry in entries:
        model = complete_model(args, entry).train()
        torch.manual_seed(args.seed)

        def measure(batch: dict, model: torch.nn.Module = model) -> object:
            data = model.data_preprocessor(batch, True)
            return terms_conflict(model, lambda: model(**data, mode='loss'), tuple(args.losses))

        found[entry.label] = gradient_conflict.conflict_over_batches(model, measure, batches)
    models = {label: gradient_conflict.conflict_summary(cosines) for label, cosines in found.items()}
    save(args, models, gradient_conflict.draw_conflict(found), losses=args.losses, batch_size=args.batch_size,
         batches=len(batches))


def attention_distance(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Mean attention distance."""
    found, count = {}, 0
    for entry, encoder in zip(entries, encoders_of(args, entries).values()):
        batches = list(pixel_batches(args, entries[0].cfg, encoder))
        count = sum(map(len, batches))
        found[entry.label] = distances.attention_distances(encoder.encode_pixels, batches, encoder.grid,
                                                             encoder.patch_size)
    models = {label: {'per_block': result.per_block.tolist(), 'per_head': result.per_head.tolist(),
                      'mass_on_extra': result.mass_on_extra.mean((1, 2)).tolist()} for label, result in found.items()}
    figure = distances.draw_attention_distance({label: result.per_head.numpy() for label, result in found.items()})
    save(args, models, figure, images=count, unit='pixels')


def vic(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """VICReg's terms."""
    encoders = encoders_of(args, entries)
    first = next(iter(encoders.values()))
    preprocessor = MODELS.build({'type': 'SelfSupDataPreprocessor', **preprocessor_config(entries[0].cfg)})
    preprocessor.to(args.device)
    batches = training_batches(entries[0].cfg, args.batches, args.batch_size, args.workers, args.seed)
    views = [preprocessor(batch, True)['inputs'] for batch in batches]
    if not isinstance(views[0], list | tuple) or len(views[0]) < 2:
        raise ValueError('the training data of the first config give no two views; put a contrastive config first')
    pixels = [[first.denormalize(view) for view in pair[:2]] for pair in views]
    found = {label: terms.vic_by_block(encoder, encoder.encode_pixels, pixels)._asdict()
             for label, encoder in encoders.items()}
    values = {label: {name: term.cpu().numpy() for name, term in parts.items()} for label, parts in found.items()}
    models = {label: {name: term.tolist() for name, term in parts.items()} for label, parts in values.items()}
    save(args, models, terms.draw_vic(values), images=sum(len(pair[0]) for pair in views))


def layers(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Scores of every block, and proposals that follow from them."""
    sets = build_datasets(entries[0].cfg)
    rows = [at_most(image_labels(dataset), count, args.seed)
            for dataset, count in zip(sets, (args.train_images, args.test_images))]
    check_two_classes(image_labels(sets[0]))
    found = {}
    for label, encoder in encoders_of(args, entries).items():
        train, test = (features_of_blocks(encoder, dataset, chosen, args.batch_size, args.workers)
                       for dataset, chosen in zip(sets, rows))
        found[label] = curves(train, test, args.seed)
    proposals = {label: propose(measured) for label, measured in found.items()}
    models = {label: {'curves': found[label], 'proposal': asdict(proposals[label])} for label in found}
    for label, proposal in proposals.items():
        print(f'{label}: {proposal.reason}')
        print(f'  heads out_indices={proposal.out_indices}, graft above block {proposal.graft_depth}, freeze the stem '
              f'and the first {proposal.freeze_first}')
    save(args, models, draw_layers(found, proposals), train_images=len(rows[0]), test_images=len(rows[1]))


def tsne(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Features of test images in the plane."""
    encoders = encoders_of(args, entries)
    _, dataset = build_datasets(entries[0].cfg)
    labels, bgr = image_labels(dataset), normalization_of(entries[0].cfg)['to_rgb']
    chosen = balanced(labels, args.classes, args.per_class)
    points = {}
    for label, encoder in encoders.items():
        with torch.inference_mode():
            features = torch.cat([encode(encoder.backbone, encoder.normalize(pixels), args.pool).float().cpu()
                                  for pixels in image_batches(dataset, chosen, bgr, args.batch_size)])
        points[label] = plane.embed(features.numpy(), args.perplexity, args.seed)
    names = list(class_names(dataset)) or [str(index) for index in range(labels.max() + 1)]
    models = {label: {'points': places.tolist()} for label, places in points.items()}
    save(args, models, plane.draw_points(points, labels[chosen], names), labels=labels[chosen].tolist(),
         perplexity=args.perplexity)


def attention_map(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Attention of the class token."""
    encoders = encoders_of(args, entries)
    pixels, pictures = all_pixels(args, entries[0].cfg, next(iter(encoders.values())))
    found = {label: maps.class_attention_maps(
        maps.attention_weights(encoder.encode_pixels, pixels, args.block), encoder.grid).cpu().numpy()
        for label, encoder in encoders.items()}
    models = {label: {'maps': values.tolist()} for label, values in found.items()}
    save(args, models, maps.draw_attention_maps(pictures, found), block=args.block)


def patch_retrieval(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Patches that are most like one, a picture for each checkpoint."""
    encoders = encoders_of(args, entries)
    pixels, pictures = all_pixels(args, entries[0].cfg, next(iter(encoders.values())))
    models, figures = {}, []
    for label, encoder in encoders.items():
        with torch.inference_mode():
            tokens = torch.cat([encoder.patch_tokens(part) for part in pixels.split(args.batch_size)])
        found = retrieval.nearest_patches(tokens, *args.query, args.neighbors)
        models[label] = {name: values.tolist() for name, values in found._asdict().items()}
        figures.append(retrieval.draw_neighbors(pictures, encoder.grid, tuple(args.query), found))
    save(args, models, *figures, query=args.query)


def reconstruction(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Visible, hidden and predicted patches, a picture for each checkpoint."""
    _whole_model(args)
    models, figures = {}, []
    for entry in entries:
        model = complete_model(args, entry)
        torch.manual_seed(args.seed)
        channels = patch_projection(model).in_channels
        results = reconstruct(model, read_images(args.images, tuple(model.backbone.img_size), channels,
                                                 reading_of(entry.cfg)))
        models[entry.label] = {'hidden': [float(result.mask.mean()) for result in results]}
        figures.append(reconstruction_figure.draw(results))
    save(args, models, *figures, images=args.images)


def segmentation(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Predicted classes of test images."""
    _whole_model(args)
    data, samples = _test_samples(args, entries[0].cfg)
    images = [sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1] for sample in samples]  # BGR → RGB
    truth = [sample['data_samples'].gt_sem_seg.data[0].numpy() for sample in samples]
    columns, models = {'truth': truth}, {}
    for entry in entries:
        model = complete_model(args, entry)
        columns[entry.label] = [segmentation_figure.predict(model, sample) for sample in samples]
        models[entry.label] = {'pixels_right': [float((predicted == true).mean())
                                                for predicted, true in zip(columns[entry.label], truth)]}
    figure = segmentation_figure.draw(images, columns, data.metainfo['classes'], data.metainfo['palette'])
    save(args, models, figure, indices=args.indices)


def detection(args: Namespace, entries: list[AnalyzedModel]) -> None:
    """Boxes and masks in test images."""
    data, samples = _test_samples(args, entries[0].cfg)
    images = [mmcv.imread(sample['data_samples'].img_path, channel_order='rgb') for sample in samples]
    columns, models = {'truth': [detection_figure.truth(data, index) for index in args.indices]}, {}
    for entry in entries:
        model = complete_model(args, entry)
        columns[entry.label] = found = [detection_figure.predict(model, sample, args.score) for sample in samples]
        models[entry.label] = [{'boxes': objects.boxes.tolist(), 'labels': objects.labels.tolist(),
                                  'scores': objects.scores.tolist()} for objects in found]
    palette = data.metainfo.get('palette') or detection_figure.colors(len(data.metainfo['classes']))
    figure = detection_figure.draw(images, columns, data.metainfo['classes'], palette)
    save(args, models, figure, indices=args.indices, score=args.score)


def _test_samples(args: Namespace, cfg: Config) -> tuple[Dataset, list[dict]]:
    _whole_model(args)
    check_test_data(cfg, args.config or args.checkpoint)
    init_default_scope(cfg.default_scope)
    data = DATASETS.build(cfg.test_dataloader.dataset)
    if not all(0 <= index < len(data) for index in args.indices):
        raise ValueError(f'--indices {args.indices}: the test set has the images 0 to {len(data) - 1}')
    return data, [data[index] for index in args.indices]
