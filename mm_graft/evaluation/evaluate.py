"""One call from a config and a checkpoint to the numbers of all protocols."""

import time
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mm_graft.evaluation.cache import Features, cache_key, load_result, save_result
from mm_graft.evaluation.datasets import class_names
from mm_graft.evaluation.frozen import Evaluation, EvaluationSettings, prepare
from mm_graft.evaluation.image_protocols import IMAGE_PROTOCOLS
from mm_graft.evaluation.protocols import FROZEN_PROTOCOLS
from mm_graft.evaluation.report import plot_report, report_table, write_json
from mm_graft.evaluation.zero_shot import zero_shot_head
from mm_graft.files import sha256_of_file, write_text
from mm_graft.version import __version__

PROTOCOLS = (*FROZEN_PROTOCOLS, *IMAGE_PROTOCOLS)
SELECT_ON_TEST = ('linear', 'linear-augmented', 'linear-dinov2', 'probe-depth')  # those that can


def evaluate(cfg: Config, checkpoint: str, settings: EvaluationSettings, out: str | Path | None = None) -> dict | None:
    """Run protocols; returns the report, on the main process only.

    Under a launcher all processes encode images, each its share; the protocols on features run on the main one. Into
    ``out`` go ``report.json``, ``report.txt`` and ``report.png``; the JSON is written last, complete or not at all.
    """
    start = time.perf_counter()
    check_protocols(settings)
    evaluation = prepare(cfg, checkpoint, settings)
    if 'zero-shot' in settings.protocols:
        zero_shot_head(evaluation)  # what does not fit is an error before images are encoded
    found = dict(zip(('train', 'test')[-len(evaluation.sets):], zip(evaluation.sets, evaluation.features)))
    extracted = time.perf_counter()
    in_turn = sorted(settings.protocols, key=lambda name: name not in IMAGE_PROTOCOLS)  # nobody waits in a collective
    results = {name: protocol_result(name, evaluation) for name in in_turn
               if is_main_process() or name in IMAGE_PROTOCOLS}
    if not is_main_process():
        return None
    report = {
        'protocols': {name: results[name] for name in settings.protocols},
        'checkpoint': str(checkpoint), 'checkpoint_sha256': evaluation.sha256, 'branch': settings.branch,
        'pool': settings.pool, 'final_norm': settings.final_norm, 'unit': 'percent',
        'data': {name: describe(*pair) for name, pair in found.items()},
        'seconds': time.perf_counter() - start, 'seconds_features': extracted - start,
        'device': settings.device, 'torch': torch.__version__}
    if out is not None:
        save(report, out)
    return report


def check_protocols(settings: EvaluationSettings) -> None:
    """Refuse protocols that do not exist, and a choice on test images where none makes it."""
    wanted = settings.protocols
    unknown = [name for name in wanted if name not in PROTOCOLS]
    if unknown or not wanted:
        raise ValueError(f'protocols {unknown} are unknown; choose from {list(PROTOCOLS)}')
    if settings.protocol.select_on_test and ('alf' in wanted or not set(SELECT_ON_TEST) & set(wanted)):
        raise ValueError(f'--select-on-test (select_on_test=True) is for {list(SELECT_ON_TEST)} and changes nothing of '
                         f'{[name for name in wanted if name not in SELECT_ON_TEST]}; leave it out')


def protocol_result(name: str, evaluation: Evaluation) -> dict:
    """Result of a protocol, kept beside the features for the next call with the same features and settings."""
    settings, protocol = evaluation.settings, evaluation.settings.protocol
    key = cache_key(
        protocol=name, features=[found.digest for found in evaluation.features], encoder=evaluation.sha256,
        settings=asdict(protocol), blocks=settings.blocks, version=__version__,
        files=[sha256_of_file(name) if name and Path(name).is_file() else name
               for name in (protocol.fewshot_list, protocol.class_embeddings)])
    path = Path(settings.cache) / 'results' / f'{key}.json'
    kept = [load_result(path) if is_main_process() else None]
    if name in IMAGE_PROTOCOLS:
        broadcast_object_list(kept)  # all processes run it, or none
    if kept[0] is not None:
        return kept[0]
    start = time.perf_counter()
    if name in FROZEN_PROTOCOLS:
        result = FROZEN_PROTOCOLS[name](evaluation.data, protocol)
    else:
        result = IMAGE_PROTOCOLS[name](evaluation)
    result['seconds'] = time.perf_counter() - start
    if is_main_process():
        save_result(path, result)
    return result


def describe(dataset: Dataset, features: Features) -> dict:
    """The entry of a data set in the report."""
    return {
        'type': type(dataset).__name__, 'root': str(getattr(dataset, 'data_root', '')), 'images': len(features.labels),
        'classes': len(class_names(dataset)) or int(features.labels.max()) + 1, 'from_cache': features.from_cache,
        'bad': len(features.bad), 'bad_images': [f'{image.name}: {image.reason}' for image in features.bad[:100]]}


def save(report: dict, out: str | Path) -> None:
    """Write table, plot and, last, ``report.json`` into a folder."""
    out = Path(out)
    write_text(out / 'report.txt', report_table(report) + '\n')
    plot_report(report, out / 'report.png')
    write_json(out / 'report.json', report)
    print_log(f'wrote {out / "report.json"}', logger='current')
