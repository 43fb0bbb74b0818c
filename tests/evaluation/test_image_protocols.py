from dataclasses import replace

import pytest
import torch

from mm_graft.evaluation import image_protocols as module
from mm_graft.evaluation.frozen import prepare
from mm_graft.evaluation.image_protocols import IMAGE_PROTOCOLS, augmented_set
from mm_graft.evaluation.linear_probe import LinearProbeResult
from mm_graft.evaluation.protocols import percent, run_linear


def test_augmented_linear_probe_reports_its_head_and_repeats_it(run):
    cfg, checkpoint, settings = run
    settings = replace(settings, protocol=replace(settings.protocol, seeds=2))
    result = IMAGE_PROTOCOLS['linear-augmented'](prepare(cfg, checkpoint, settings))
    assert len(result['top1_by_seed']) == 2
    assert result['selected_on'] == 'held-out training images'
    assert (result['base_lr'], result['epoch'], result['heads']) == (1, 2, 2)


def test_each_seed_of_the_augmented_linear_probe_gets_the_settings_and_the_images_that_can_be_used(
        run, tmp_path, monkeypatch):
    asked, result = [], LinearProbeResult(0.5, torch.zeros(1), 3.0, 2.0, 0.0, 0.25, 'x', 1)

    def probe(encoder, augmented, indices, data, linear, *rest):
        asked.append((len(augmented), indices, len(data.train_labels), linear.seed, *rest))
        return replace(result, accuracy=0.5 * len(asked))

    monkeypatch.setattr(module, 'linear_probe_augmented', probe)
    (tmp_path / 'train/dark/1.png').write_bytes(b'broken')
    cfg, checkpoint, settings = run
    linear = replace(settings.protocol.linear, seed=4)
    settings = replace(settings, pool='avg', batch_size=5, workers=0, protocol=replace(
        settings.protocol, seeds=2, linear=linear, select_on_test=True))
    report = IMAGE_PROTOCOLS['linear-augmented'](prepare(cfg, checkpoint, settings))
    assert asked == [(12, [0, *range(2, 12)], 11, seed, 'avg', 5, 0, True) for seed in (4, 5)]
    assert (report['top1_by_seed'], report['selection_top1'], report['base_lr']) == ([50, 100], 25, 3)
    assert report['interval95'] == percent(0.75, 12)['interval95']


def test_the_choice_on_test_images_reaches_the_augmented_linear_probe(run):
    cfg, checkpoint, settings = run
    settings = replace(settings, protocol=replace(settings.protocol, select_on_test=True))
    assert IMAGE_PROTOCOLS['linear-augmented'](prepare(cfg, checkpoint, settings))['selected_on'] == 'test images'


def test_the_augmented_set_has_the_training_images_in_other_crops(run):
    evaluation = prepare(*run)
    crops = augmented_set(evaluation)
    assert len(crops) == 12
    assert not torch.equal(crops[0]['inputs'], crops[0]['inputs'])
    assert crops[0]['data_samples'].img_path == evaluation.sets[0][0]['data_samples'].img_path


def test_depth_is_the_linear_probe_of_each_block_and_the_deepest_is_the_headline(run):
    cfg, checkpoint, settings = run
    evaluation = prepare(cfg, checkpoint, replace(settings, blocks=(4, 2)))
    result = IMAGE_PROTOCOLS['probe-depth'](evaluation)
    assert set(result['top1_by_block']) == {'2', '4'}
    assert result['block'] == 4
    whole = run_linear(evaluation.data, settings.protocol)['top1']  # the cut after the last block cuts nothing
    assert result['top1'] == result['top1_by_block']['4'] == whole


def test_without_blocks_half_three_quarters_and_all_are_probed(run):
    assert set(IMAGE_PROTOCOLS['probe-depth'](prepare(*run))['top1_by_block']) == {'2', '3', '4'}


def test_a_block_that_there_is_not_is_named(run):
    cfg, checkpoint, settings = run
    with pytest.raises(ValueError, match='block=5; this encoder has blocks 1 to 4'):
        IMAGE_PROTOCOLS['probe-depth'](prepare(cfg, checkpoint, replace(settings, blocks=(5, ))))
