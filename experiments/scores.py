"""How the experiments score an encoder on frozen features."""

from dataclasses import replace
from pathlib import Path

import torch
from mmengine.config import Config

from mm_graft.evaluation.evaluate import evaluate
from mm_graft.evaluation.frozen import EvaluationSettings
from mm_graft.evaluation.linear_probe import LinearProbeSettings, sweep_grid
from mm_graft.evaluation.protocols import ProtocolSettings

BASE_LRS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
DRAWS = 5


def settings_for(cache: Path, seed: int) -> EvaluationSettings:
    """KNN with k = 20 and a linear head over the class token, in small batches for a CPU."""
    linear = LinearProbeSettings(grid=tuple(sweep_grid(BASE_LRS, (0, ))), epochs=30, batch_size=256, batch_norm=True,
                                 seed=seed)
    return EvaluationSettings(
        protocols=('knn', 'linear'), batch_size=500, workers=0, cache=str(cache),
        device='cuda' if torch.cuda.is_available() else 'cpu', protocol=ProtocolSettings(ks=(20, ), linear=linear))


def frozen_scores(cfg: Config, checkpoint: Path, cache: Path, seed: int, pool: str = 'cls') -> dict:
    """Top-1 accuracy in percent of kNN, the linear probe, and 1 % few-shot as the mean of several draws."""
    settings = replace(settings_for(cache, seed), pool=pool)
    draws = replace(settings, protocols=('fewshot-1', ), protocol=replace(settings.protocol, seeds=DRAWS))
    found = {name: result for each in (settings, draws)
             for name, result in evaluate(cfg, str(checkpoint), each)['protocols'].items()}
    return {'knn': found['knn']['top1'], 'linear': found['linear']['top1'], 'fewshot_1': found['fewshot-1']['top1'],
            'fewshot_1_draws': found['fewshot-1']['top1_by_seed']}
