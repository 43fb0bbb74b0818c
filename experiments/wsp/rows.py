"""The rows of the experiment: one encoder of one seed, how it is trained and scored."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope

from experiments import demo
from experiments.finetuning import finetune_accuracy
from experiments.scores import frozen_scores, settings_for
from experiments.training import save_initial_weights
from experiments.wsp.noisy_captions import FASHION_SYNSETS
from mm_graft.checkpoints import read_checkpoint
from mm_graft.evaluation.datasets import build_dataset, image_labels
from mm_graft.evaluation.evaluate import evaluate
from mm_graft.evaluation.frozen import prepare
from mm_graft.evaluation.report import write_json
from mm_graft.evaluation.splits import pick_share

CONFIGS = Path(__file__).with_name('configs')
MAE = Path(demo.__file__).with_name('configs') / 'mae.py'
MAE_EPOCHS = 12
STARTS = ('random', 'mae')
# of what is trained on tags: config, overrides
ROWS = {
    'random2wsp': ('mae2wsp', ['default_hooks.init.checkpoint=None']),
    'mae2wsp': ('mae2wsp', []),
    'mae2wsp_grafted': ('mae2wsp', ['optim_wrapper.paramwise_cfg.stage_lr_mult=[0.1,0.1,1]']),
    'mae2wsp_anchored': ('mae2wsp_anchored', []),
    'mae2wsp_freezeout': ('mae2wsp_freezeout', []),
}
BATCH, STEPS = 128, 39  # an epoch has 78 steps
CURVE = (39, 78, 156, 312)  # steps after which kNN is scored
CURVE_IMAGES = 4000  # training and test images each
RETRIEVED = 100  # images a tag, of the 1,000 that are right


@dataclass(frozen=True)
class Row:
    """One encoder of one seed: where it lies, what trains it, and what is known of it.

    Args:
        name: ``random``, ``mae``, or one of ``ROWS``.
        seed: of initial weights, order and crops. The captions are the same for all.
        out: folder of the runs.
        mae_epochs: of the MAE that it starts from.
        images: of the training set, the first ones.
    """

    name: str
    seed: int
    out: Path
    mae_epochs: int = MAE_EPOCHS
    images: int = 10000

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        return self.out / f'{self.name}_{self.seed}'

    @property
    def mae(self) -> Path:
        """MAE's last checkpoint of the same seed."""
        return self.out / f'mae_{self.seed}' / f'epoch_{self.mae_epochs}.pth'

    @property
    def config(self) -> Path:
        """What trains it, or, for an encoder that is not trained on tags, has the same backbone."""
        return CONFIGS / f'{ROWS[self.name][0] if self.name in ROWS else "mae2wsp"}.py'

    @property
    def checkpoint(self) -> Path:
        """Its last one; that of random weights is written when it is first asked for."""
        if self.name == 'mae':
            return self.mae
        note = self.folder / 'last_checkpoint'
        if self.name == 'random' and not note.is_file():
            cfg = Config.fromfile(self.config)
            save_initial_weights(cfg, self.folder, self.seed)
        return Path(note.read_text().strip())

    @property
    def options(self) -> list[str]:
        """What its training changes in the config: checkpoints to draw a curve from, and MAE's."""
        changes = ROWS[self.name][1]
        source = [f'default_hooks.init.checkpoint={self.mae}'] if 'mae' in self.name else []
        return ['default_hooks.checkpoint.by_epoch=False', f'default_hooks.checkpoint.interval={STEPS}',
                'default_hooks.checkpoint.max_keep_ckpts=-1', *changes, *source]

    @property
    def report(self) -> Path:
        """The file of its scores."""
        return self.out / f'row_{self.name}_{self.seed}.json'

    @property
    def features(self) -> Path:
        """Where the features of all rows are kept."""
        return self.out / 'features'

    def known(self) -> dict:
        """The scores that are there."""
        return json.loads(self.report.read_text()) if self.report.is_file() else {}

    def add(self, key: str, compute: Callable[['Row'], dict]) -> None:
        """Write what ``compute`` gives to the scores, unless ``key``, which is part of it, is there."""
        known = self.known()
        if key not in known:
            write_json(self.report, {'method': self.name, 'seed': self.seed, **known, **compute(self)})


def scored_config(row: Row, images: int | None = None) -> Config:
    """The row's encoder on Fashion-MNIST with its right labels, the first images of both sets."""
    cfg = Config.fromfile(MAE)
    cfg.model = Config.fromfile(row.config).model
    cfg.train_dataloader.dataset.indices = images or row.images
    return cfg


def score_frozen(row: Row) -> dict:
    """Accuracy of kNN, linear probe and 1 % few-shot in percent."""
    scores = frozen_scores(scored_config(row), row.checkpoint, row.features, row.seed)
    return {name: scores[name] for name in ('knn', 'linear', 'fewshot_1')}


def score_tags(row: Row) -> dict:
    """Accuracy of the classifier's own tags, and how long its training took."""
    data = prepare(scored_config(row), str(row.checkpoint), settings_for(row.features, row.seed)).data
    return {**by_tags(data.test_features, data.test_labels, row.checkpoint),
            'training_seconds': float((row.folder / 'done').read_text().split()[0])}


def by_tags(features: torch.Tensor, labels: torch.Tensor, checkpoint: Path) -> dict:
    """Classification and retrieval by the tags that name a class, in percent: no label was ever seen.

    ``by_tags``: images whose highest tag, of those, is right. ``retrieval_100``: the images with the highest
    probability of a tag, as many of each as ``RETRIEVED``; those of the right class, on the average of all tags.
    """
    head = {name: tensor.to(features.device) for name, tensor in read_checkpoint(checkpoint).items()
            if name.startswith('head.fc.')}
    scores = features @ head['head.fc.weight'].T + head['head.fc.bias']  # (N, C)
    classes = range(len(FASHION_SYNSETS))
    found = scores.softmax(1)[:, classes].topk(min(RETRIEVED, len(scores)), dim=0).indices  # (K, classes)
    right = labels[found] == torch.arange(len(classes), device=labels.device)
    return {'by_tags': 100 * float((scores[:, classes].argmax(1) == labels).float().mean()),
            'retrieval_100': 100 * float(right.float().mean())}


def score_curve(row: Row) -> dict:
    """Accuracy of kNN on part of the images at some checkpoints of a run."""
    cfg = scored_config(row, CURVE_IMAGES)
    settings = replace(settings_for(row.features, row.seed), protocols=('knn', ))
    points = []
    for step in CURVE:
        report = evaluate(cfg, str(row.folder / f'iter_{step}.pth'), settings)
        points.append({'images': BATCH * step, 'knn': report['protocols']['knn']['top1']})
    return {'curve': points}


def finetune_recipe(checkpoint: Path | None, seed: int, work_dir: Path) -> Config:
    """Fine-tuning on 100 right labels of each class, drawn by the seed: the same images for all encoders."""
    cfg = Config.fromfile(CONFIGS / 'finetune.py')
    init_default_scope(cfg.default_scope)
    labels = image_labels(build_dataset(Config.fromfile(MAE).train_dataloader.dataset))
    cfg.train_dataloader.dataset.indices = pick_share(labels, cfg.num_labels / len(labels), seed).tolist()
    cfg.default_hooks.init.checkpoint = checkpoint and str(checkpoint)
    cfg.default_hooks.checkpoint = cfg.visualizer = None
    cfg.randomness.seed = seed
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'finetune_{work_dir.name}'
    cfg.log_level = 'ERROR'
    return cfg


def score_finetuned(row: Row) -> dict:
    """Accuracy after fine-tuning, and, on part of the test images, on the way."""
    start = None if row.name == 'random' else row.checkpoint
    cfg = finetune_recipe(start, row.seed, row.out / 'finetune' / f'{row.name}_{row.seed}')
    accuracy = finetune_accuracy(cfg)
    history = MessageHub.get_current_instance().get_scalar('val/accuracy/top1').data[0].tolist()
    epochs = (cfg.train_cfg.val_interval * (index + 1) for index in range(len(history)))
    return {'finetune_10': 100 * accuracy, 'finetune_10_curve': [
        {'epoch': epoch, 'top1': top1} for epoch, top1 in zip(epochs, history, strict=True)]}
