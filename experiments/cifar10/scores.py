"""Evaluation of one checkpoint of the CIFAR-10 experiment."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import set_random_seed

from experiments.cifar10.sizes import read_config
from experiments.finetuning import finetune_accuracy, finetune_config
from experiments.scores import BASE_LRS
from mm_graft.evaluation.datasets import build_dataset, dataset_configs, image_labels
from mm_graft.evaluation.evaluate import evaluate
from mm_graft.evaluation.frozen import EvaluationSettings
from mm_graft.evaluation.linear_probe import LinearProbeSettings, sweep_grid
from mm_graft.evaluation.protocols import ProtocolSettings
from mm_graft.evaluation.report import write_json
from mm_graft.evaluation.splits import pick_share

REPETITIONS = 5


def settings_of(pool: str, cache: Path, seed: int) -> EvaluationSettings:
    """How a checkpoint is evaluated: kNN with k = 20, a linear head and 1 % few-shot, each several times."""
    linear = LinearProbeSettings(grid=tuple(sweep_grid(BASE_LRS, (0, ))), epochs=30, batch_norm=True, seed=seed,
                                 batch_size=2048 if torch.cuda.is_available() else 256)
    protocol = ProtocolSettings(ks=(20, ), linear=linear, seeds=REPETITIONS)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    return EvaluationSettings(protocols=('knn', 'linear', 'fewshot-1'), pool=pool, batch_size=500,
                              workers=8 if device == 'cuda' else 0, device=device, cache=str(cache), protocol=protocol)


def evaluate_checkpoints(cfg: Config, places: Sequence[tuple[Path, Path, str]], cache: Path, seed: int) -> None:
    """Write for every (report, checkpoint, pooling) the percentages of test images that are right, features frozen."""
    for report, checkpoint, pool in places:
        protocols = evaluate(cfg, str(checkpoint), settings_of(pool, cache, seed))['protocols']
        write_json(report, {name: round(result['top1'], 3) for name, result in protocols.items()})


def tuned_protocol(report: Path, cfg: Config, checkpoint: Path, scale: str, seed: int) -> None:
    """Write the percentage of test images that are right after fine-tuning, on 10 % of the labels or on all.

    The name of ``report`` is that of the protocol.
    """
    recipe = read_config('finetune', scale)
    recipe.log_level = 'ERROR'
    set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        if report.stem == 'fewshot-10':
            labels = image_labels(build_dataset(dataset_configs(cfg)[0]))
            rows = pick_share(labels, 0.1, seed).tolist()
            workers = 8 if torch.cuda.is_available() else 0
            tuned = finetune_config(recipe, cfg, str(checkpoint), rows, 10, folder,
                                    epochs=10 * recipe.train_cfg.max_epochs, workers=workers)
        else:
            tuned = whole_finetuning(recipe, cfg, checkpoint, folder)
        top1 = 100 * finetune_accuracy(tuned)
    write_json(report, {report.stem: round(top1, 3)})


def whole_finetuning(recipe: Config, cfg: Config, checkpoint: Path, folder: str) -> Config:
    """The recipe on all training images: encoder and a new head, without the projector that few labels start from."""
    result = finetune_config(recipe, cfg, str(checkpoint), [], 10, folder, workers=recipe.train_dataloader.num_workers)
    del result.train_dataloader.dataset['indices']
    result.train_dataloader.batch_size = recipe.train_dataloader.batch_size
    result.model.neck = None
    result.model.head.in_channels = recipe.model.head.in_channels
    result.default_hooks.init = dict(type='mm_graft.LoadBackboneHook', checkpoint=str(checkpoint))
    return result
