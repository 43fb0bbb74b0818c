"""The protocols that go back to the images; all processes take part, and the main one has the result."""

from collections.abc import Callable
from dataclasses import replace

from mmengine.dist import is_main_process
from torch.utils.data import Dataset

from mm_graft.evaluation.attentive_fusion import run_attentive_fusion
from mm_graft.evaluation.block_cut import cut_after, default_blocks, single_list
from mm_graft.evaluation.datasets import augmented_pipeline, build_dataset, dataset_configs
from mm_graft.evaluation.frozen import Evaluation
from mm_graft.evaluation.linear_augmented import linear_probe_augmented
from mm_graft.evaluation.linear_dinov2 import run_linear_dinov2
from mm_graft.evaluation.protocols import linear_report, percent, run_linear
from mm_graft.evaluation.zero_shot import run_zero_shot


def run_linear_augmented(evaluation: Evaluation) -> dict:
    """The linear grid on features of random crops, once for every seed."""
    settings, linear = evaluation.settings, evaluation.settings.protocol.linear
    results = [
        linear_probe_augmented(
            evaluation.encoder, augmented_set(evaluation), evaluation.features[0].indices.tolist(), evaluation.data,
            replace(linear, seed=linear.seed + offset), settings.pool, settings.batch_size, settings.workers,
            settings.protocol.select_on_test)
        for offset in range(settings.protocol.seeds)]
    return linear_report(results, evaluation.settings.protocol, len(evaluation.data.test_labels))


def run_probe_depth(evaluation: Evaluation) -> dict:
    """Linear probing of the features of several blocks; the headline is the deepest."""
    settings = evaluation.settings
    blocks = settings.blocks or default_blocks(len(single_list(evaluation.encoder.backbone)))
    by_block = {}
    for block in blocks:
        cut = replace(evaluation, encoder=cut_after(evaluation.encoder, block), sha256=f'{evaluation.sha256}+{block}')
        cut.features  # noqa: B018 - extracted by all processes together
        if is_main_process():
            by_block[str(block)] = run_linear(cut.data, settings.protocol)['top1']
    headline = percent(by_block.get(str(max(blocks)), 0) / 100, len(evaluation.data.test_labels))
    return {**headline, 'block': max(blocks), 'top1_by_block': by_block}


def augmented_set(evaluation: Evaluation) -> Dataset:
    """The training set with random crops."""
    train = dataset_configs(evaluation.cfg)[0]
    return build_dataset({**train, 'pipeline': augmented_pipeline(evaluation.cfg, train['pipeline'])})


IMAGE_PROTOCOLS: dict[str, Callable[[Evaluation], dict]] = {
    'linear-augmented': run_linear_augmented, 'linear-dinov2': run_linear_dinov2, 'alf': run_attentive_fusion,
    'probe-depth': run_probe_depth, 'zero-shot': run_zero_shot}
