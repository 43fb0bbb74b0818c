"""The protocols that go back to the images: augmented linear probing, probing over depth, few-shot fine-tuning."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config

from mm_graft.depth import blocks_of
from mm_graft.evaluation.attentive_fusion import run_attentive_fusion
from mm_graft.evaluation.datasets import augmented_pipeline, build_dataset, dataset_configs
from mm_graft.evaluation.fewshot_finetune import finetune_accuracy, finetune_config
from mm_graft.evaluation.frozen import Evaluation
from mm_graft.evaluation.linear_augmented import linear_probe_augmented
from mm_graft.evaluation.linear_dinov2 import run_linear_dinov2
from mm_graft.evaluation.probe_depth import (
    cut_after,
    default_blocks,
    predict_behind,
    train_behind,
    with_new_blocks,
)
from mm_graft.evaluation.protocols import over_seeds, percent, run_linear
from mm_graft.evaluation.readable import ReadableBatches, ReadableImages, make_loader
from mm_graft.evaluation.splits import pick_share, read_list, sha256_of_list


def run_linear_augmented(evaluation: Evaluation) -> dict:
    """The linear grid on features of random crops, once for every seed."""
    settings, linear = evaluation.settings, evaluation.settings.protocol.linear
    results = [
        linear_probe_augmented(
            evaluation.encoder, augmented_set(evaluation), evaluation.features[0].indices.tolist(), evaluation.data,
            replace(linear, seed=linear.seed + offset), settings.pool, settings.batch_size, settings.workers)
        for offset in range(settings.protocol.seeds)]
    first = results[0]
    return {**over_seeds([result.accuracy for result in results], len(evaluation.data.test_labels)),
            'selected_on': first.selected_on, 'selection_top1': 100 * first.selection_accuracy,
            'base_lr': first.base_lr, 'lr': first.lr, 'weight_decay': first.weight_decay, 'epoch': first.epoch}


def run_probe_depth(evaluation: Evaluation) -> dict:
    """Table 5: top-1 of every block b with every number n of new blocks; the headline is the deepest block, first n."""
    settings = evaluation.settings
    blocks = settings.blocks or default_blocks(len(blocks_of(evaluation.encoder.backbone)))
    grid = {str(block): {str(count): _probe(evaluation, block, count) for count in settings.new_blocks}
            for block in blocks}
    headline = grid[str(max(blocks))][str(settings.new_blocks[0])]
    return {**percent(headline / 100, len(evaluation.data.test_labels)), 'block': max(blocks),
            'new_blocks': settings.new_blocks[0], 'top1_by_block': grid, 'epochs_of_new_blocks': settings.probe_epochs}


def run_fewshot_finetune(evaluation: Evaluation) -> dict:
    """Fine-tuning on a list, or a drawn 10 %, by a recipe config."""
    settings, data = evaluation.settings, evaluation.data
    if settings.finetune_list:
        rows = read_list(settings.finetune_list, data.train_names)
    else:
        rows = pick_share(data.train_labels.cpu().numpy(), 0.1, settings.protocol.linear.seed)
    positions = evaluation.features[0].indices[torch.from_numpy(rows)].tolist()
    with tempfile.TemporaryDirectory() as work_dir:
        cfg = finetune_config(
            Config.fromfile(settings.finetune_recipe), evaluation.cfg, evaluation.checkpoint, positions,
            data.num_classes, work_dir, settings.branch, settings.finetune_epochs, settings.workers)
        accuracy = finetune_accuracy(cfg)
    return {**percent(accuracy, len(evaluation.sets[1])), 'train_images': len(rows),
            'list': settings.finetune_list or 'drawn, class-balanced',
            'list_sha256': sha256_of_list([data.train_names[row] for row in rows]),
            'recipe': Path(settings.finetune_recipe).name, 'epochs': cfg.train_cfg.max_epochs,
            'from_projector': cfg.model.get('neck') is not None}


def augmented_set(evaluation: Evaluation):
    """The training set with random crops."""
    train = dataset_configs(evaluation.cfg)[0]
    return build_dataset({**train, 'pipeline': augmented_pipeline(evaluation.cfg, train['pipeline'])})


def _probe(evaluation: Evaluation, block: int, new_blocks: int) -> float:
    """Top-1 accuracy in percent."""
    if new_blocks == 0:
        cut = replace(evaluation, encoder=cut_after(evaluation.encoder, block), sha256=f'{evaluation.sha256}+{block}')
        return run_linear(cut.data, evaluation.settings.protocol)['top1']
    settings, data = evaluation.settings, evaluation.data
    torch.manual_seed(settings.protocol.linear.seed)
    model = with_new_blocks(evaluation.encoder, block, new_blocks)
    images, indices = augmented_set(evaluation), evaluation.features[0].indices
    loader = make_loader(settings.batch_size, settings.workers)

    def epoch():
        order = indices[torch.randperm(len(indices))].tolist()
        return ReadableBatches(loader(ReadableImages(images, order)), [], [])

    head = train_behind(model, (epoch() for _ in range(settings.probe_epochs)), data.num_classes, settings.pool)
    test = ReadableImages(evaluation.sets[1], evaluation.features[1].indices.tolist())
    predictions, labels = predict_behind(model, head, ReadableBatches(loader(test), [], []), settings.pool)
    return 100 * int((predictions == labels).sum()) / len(labels)


TRAINED_PROTOCOLS: dict[str, Callable[[Evaluation], dict]] = {
    'linear-augmented': run_linear_augmented, 'linear-dinov2': run_linear_dinov2, 'alf': run_attentive_fusion,
    'probe-depth': run_probe_depth, 'fewshot-10': run_fewshot_finetune}
