"""The demo's evaluation: kNN, linear probe and 1 % few-shot of four encoders."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from tqdm import tqdm

from mm_graft.checkpoints import load_backbone
from mm_graft.evaluation.features import extract_features
from mm_graft.evaluation.fewshot import fewshot_logreg
from mm_graft.evaluation.knn import knn_accuracy
from mm_graft.evaluation.linear_probe import LinearProbeSettings, linear_probe, sweep_grid

CONFIG = Path(__file__).resolve().parents[1] / 'configs' / 'demo' / 'graft.py'
FEW_SHOT_DRAWS = 5
BASE_LRS = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
METHODS = {'random weights': None, 'MAE': 'mae', 'MoCo v3': 'mocov3', 'graft': 'graft'}


def latest(folder: Path) -> Path:
    """The latest checkpoint of a run."""
    return Path((folder / 'last_checkpoint').read_text().strip())


def build_encoder(cfg: Config, checkpoint: Path | None, seed: int) -> nn.Module:
    """The demo's ViT, with the weights of a checkpoint or random ones, and its normalisation."""
    set_random_seed(seed)
    model = MODELS.build({**cfg.model, 'mim_checkpoint': None})
    model.init_weights()
    if checkpoint is not None:
        load_backbone(model.backbone, checkpoint)
    return model.eval().to('cuda' if torch.cuda.is_available() else 'cpu')


def loader(cfg: Config, test: bool) -> torch.utils.data.DataLoader:
    """The demo's 10,000 training images, or the 10,000 test images, in their order."""
    dataset = {**cfg.train_dataloader.dataset, 'test_mode': test}
    dataset['pipeline'] = [dict(type='PackInputs')]
    if test:
        dataset.pop('indices')
    return Runner.build_dataloader(dict(
        batch_size=500, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate')))


def few_shot(features: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, seed: int) -> list[float]:
    """Accuracy of logistic regression on 1 % of the labels, as many of each class, drawn several times."""
    per_class = len(labels) // 100 // (int(labels.max()) + 1)
    accuracies = []
    for draw in range(FEW_SHOT_DRAWS):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed + draw))
        rows = torch.cat([order[labels[order] == label][:per_class] for label in labels.unique()])
        accuracies.append(fewshot_logreg(features[rows], labels[rows], test, test_labels).accuracy)
    return accuracies


def evaluate_all(out: Path, seed: int) -> list[dict]:
    """One row per method: percentages of the 10,000 test images that are right."""
    init_default_scope('mmpretrain')
    MMLogger.get_current_instance().setLevel('ERROR')  # no line per initialised parameter
    cfg = Config.fromfile(CONFIG)
    loaders = loader(cfg, test=False), loader(cfg, test=True)
    settings = LinearProbeSettings(grid=tuple(sweep_grid(BASE_LRS, (0, ))), epochs=30, batch_size=256, batch_norm=True,
                                   seed=seed)
    rows = []
    for method, run in (bar := tqdm(METHODS.items(), desc=f'{"evaluation":>20}', unit='encoder')):
        bar.set_postfix_str(method)
        encoder = build_encoder(cfg, latest(out / run) if run else None, seed)
        features, labels = extract_features(encoder, loaders[0], progress=False)
        test, test_labels = extract_features(encoder, loaders[1], progress=False)
        few = few_shot(features, labels, test, test_labels, seed)
        linear = linear_probe(features, labels, test, test_labels, settings=settings)
        rows.append({
            'method': method,
            'knn': 100 * knn_accuracy(features, labels, test, test_labels, ks=(20, ))[20],
            'linear': 100 * linear.accuracy,
            'fewshot_1': 100 * sum(few) / len(few),
            'fewshot_1_draws': [100 * accuracy for accuracy in few],
        })
    return rows
