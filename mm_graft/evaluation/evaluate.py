"""One call from a config and a checkpoint to the numbers of all protocols."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mm_graft.evaluation.cache import Features, cache_key, sha256_of_file
from mm_graft.evaluation.datasets import class_names
from mm_graft.evaluation.frozen import Evaluation, EvaluationSettings, begin
from mm_graft.evaluation.protocols import FROZEN_PROTOCOLS
from mm_graft.evaluation.report import plot_report, report_table, write_json
from mm_graft.evaluation.trained_protocols import TRAINED_PROTOCOLS
from mm_graft.version import __version__

PROTOCOLS = (*FROZEN_PROTOCOLS, *TRAINED_PROTOCOLS)


def evaluate(cfg: Config, checkpoint: str, settings: EvaluationSettings, out: str | Path | None = None) -> dict | None:
    """Run protocols; returns the report, on the main process only.

    Under a launcher all processes extract features, each its share; the protocols then run on the main one.

    Args:
        cfg: a config with ``model.backbone`` and data sets, see :mod:`mm_graft.evaluation.datasets`.
        checkpoint: a file of any known layout.
        settings: what is evaluated, and how.
        out: folder for ``report.json``, ``report.txt`` and ``report.png``; the JSON is written last, complete or not
            at all.

    Raises:
        ValueError: an unknown protocol, or data or a checkpoint that does not fit; before anything is extracted where
            that can be known.
    """
    start = time.perf_counter()
    unknown = [name for name in settings.protocols if name not in PROTOCOLS]
    if unknown or not settings.protocols:
        raise ValueError(f'protocols {unknown} are unknown; choose from {list(PROTOCOLS)}')
    if 'fewshot-10' in settings.protocols and not settings.finetune_recipe:
        raise ValueError('fewshot-10 needs a recipe; give --finetune-recipe configs/eval/fewshot10_vit-b.py')
    evaluation = begin(cfg, checkpoint, settings)
    train, test = evaluation.features
    if not is_main_process():
        return None
    extracted = time.perf_counter()
    results = {name: protocol_result(name, evaluation) for name in settings.protocols}
    report = {
        'protocols': results, 'checkpoint': str(checkpoint), 'checkpoint_sha256': evaluation.sha256,
        'branch': settings.branch, 'pool': settings.pool, 'final_norm': settings.final_norm, 'unit': 'percent',
        'data': {'train': describe(evaluation.sets[0], train), 'test': describe(evaluation.sets[1], test)},
        'seconds': time.perf_counter() - start, 'seconds_features': extracted - start,
        'device': settings.device, 'torch': torch.__version__}
    if out is not None:
        save(report, out)
    return report


def protocol_result(name: str, evaluation: Evaluation) -> dict:
    """Result of a protocol, kept beside the features for the next call with the same features and settings."""
    settings = evaluation.settings
    lists = [sha256_of_file(path) if path and Path(path).is_file() else path
             for path in (settings.protocol.fewshot_list, settings.finetune_list, settings.finetune_recipe)]
    relevant = settings.protocol if name in FROZEN_PROTOCOLS else settings
    key = cache_key(protocol=name, features=evaluation.keys, settings=asdict(relevant), files=lists,
                    version=__version__)
    path = Path(settings.cache) / 'results' / f'{key}.json'
    if path.is_file():
        return json.loads(path.read_text())
    start = time.perf_counter()
    if name in FROZEN_PROTOCOLS:
        result = FROZEN_PROTOCOLS[name](evaluation.data, settings.protocol)
    else:
        result = TRAINED_PROTOCOLS[name](evaluation)
    result['seconds'] = time.perf_counter() - start
    write_json(path, result)
    return result


def describe(dataset: Dataset, features: Features) -> dict:
    """What the report says about a data set."""
    return {
        'type': type(dataset).__name__, 'root': str(getattr(dataset, 'data_root', '')), 'images': len(features.labels),
        'classes': len(class_names(dataset)) or int(features.labels.max()) + 1, 'from_cache': features.from_cache,
        'unreadable': len(features.unreadable),
        'unreadable_images': [f'{entry.name}: {entry.reason}' for entry in features.unreadable[:100]]}


def save(report: dict, out: str | Path) -> None:
    """Write table, plot and, last, ``report.json`` into a folder."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'report.txt').write_text(report_table(report) + '\n')
    plot_report(report, out / 'report.png')
    write_json(out / 'report.json', report)
    print_log(f'wrote {out / "report.json"}', logger='current')
