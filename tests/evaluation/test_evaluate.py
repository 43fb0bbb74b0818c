import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mm_graft.checkpoints import CheckpointError
from mm_graft.evaluation.evaluate import EvaluationSettings, build_encoder, evaluate
from mm_graft.evaluation.linear_probe import LinearProbeSettings, sweep_grid
from mm_graft.evaluation.protocols import ProtocolSettings

PROTOCOL = ProtocolSettings(
    ks=(3,), linear=LinearProbeSettings(grid=tuple(sweep_grid((1,))), epochs=2, batch_size=16), fewshot_share=0.5)


@pytest.fixture
def run(tmp_path, tiny_arch):
    """A config, a checkpoint and settings of a tiny evaluation."""
    generator = np.random.default_rng(0)
    for split in ('train', 'test'):
        for label, name in enumerate(('dark', 'light')):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(6):
                image = generator.integers(0, 60, (32, 32, 3)) + 190 * label
                cv2.imwrite(str(tmp_path / split / name / f'{index}.png'), image.astype(np.uint8))
    cfg = Config({
        'model': {'type': 'ImageClassifier',
                  'data_preprocessor': {'mean': [127.0] * 3, 'std': [64.0] * 3, 'to_rgb': True},
                  'backbone': {'type': 'VisionTransformer', 'arch': tiny_arch, 'img_size': 32, 'patch_size': 16}},
        'train_dataloader': {'dataset': {
            'type': 'CustomDataset', 'data_root': str(tmp_path), 'data_prefix': 'train',
            'pipeline': [{'type': 'LoadImageFromFile'}, {'type': 'PackInputs'}]}}})
    encoder = build_encoder(cfg)
    torch.save({'state_dict': {f'backbone.{name}': value for name, value in encoder.backbone.state_dict().items()}},
               tmp_path / 'vit.pth')
    settings = EvaluationSettings(cache=str(tmp_path / 'cache'), workers=0, protocol=PROTOCOL)
    return cfg, str(tmp_path / 'vit.pth'), settings


def test_report_holds_every_protocol_the_weights_and_the_data(run, tmp_path):
    report = evaluate(*run, tmp_path / 'out')
    kept = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert kept == json.loads(json.dumps(report))
    assert set(kept['protocols']) == {'knn', 'linear', 'fewshot-1'}
    assert kept['protocols']['knn']['top1'] == 100
    assert len(kept['checkpoint_sha256']) == 64
    assert kept['data']['train']['images'] == kept['data']['test']['images'] == 12
    assert kept['seconds'] > 0
    assert (tmp_path / 'out' / 'report.png').is_file()


def test_second_call_finds_its_features_and_says_the_same(run):
    first, second = evaluate(*run), evaluate(*run)
    assert not first['data']['train']['from_cache']
    assert second['data']['train']['from_cache']
    assert first['protocols'] == second['protocols']


def test_other_settings_of_a_protocol_are_run_anew(run):
    cfg, checkpoint, settings = run
    evaluate(*run)
    cooler = replace(settings, protocol=replace(PROTOCOL, temperature=0.5))
    assert evaluate(cfg, checkpoint, cooler)['protocols']['knn']['temperature'] == 0.5


@pytest.mark.parametrize('change', ['pool', 'weights', 'transform', 'normalisation'])
def test_other_weights_transforms_and_pools_are_extracted_anew(run, change):
    cfg, checkpoint, settings = run
    evaluate(*run)
    if change == 'pool':
        settings = replace(settings, pool='avg')
    elif change == 'weights':
        state = torch.load(checkpoint, weights_only=True)
        state['state_dict']['backbone.cls_token'] += 1
        torch.save(state, checkpoint)
    elif change == 'transform':
        pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': 16}, {'type': 'Resize', 'scale': 32},
                    {'type': 'PackInputs'}]
        cfg.test_dataloader = {'dataset': {
            **cfg.train_dataloader.dataset.to_dict(), 'data_prefix': 'test', 'pipeline': pipeline}}
    else:
        cfg.model.data_preprocessor.std = [32.0] * 3
    assert not evaluate(cfg, checkpoint, settings)['data']['train']['from_cache']


def test_corrupt_image_is_named_in_the_report_and_stops_a_strict_run(run, tmp_path):
    (tmp_path / 'train' / 'dark' / '2.png').write_bytes(b'broken')
    data = evaluate(*run)['data']['train']
    assert data['images'] == 11
    assert data['unreadable'] == 1
    assert 'dark/2.png' in data['unreadable_images'][0]
    cfg, checkpoint, settings = run
    with pytest.raises(ValueError, match=r'dark/2\.png'):
        evaluate(cfg, checkpoint, replace(settings, strict=True))


def test_bad_requests_fail_before_anything_is_written(run, tmp_path):
    cfg, checkpoint, settings = run
    with pytest.raises(ValueError, match='unknown'):
        evaluate(cfg, checkpoint, replace(settings, protocols=['svm']), tmp_path / 'out')
    with pytest.raises(CheckpointError, match='does not exist'):
        evaluate(cfg, str(tmp_path / 'none.pth'), settings, tmp_path / 'out')
    with pytest.raises(ValueError, match=r'model\.backbone'):
        evaluate(Config({}), checkpoint, settings, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    assert not (tmp_path / 'cache').exists()


def test_class_without_training_images_is_named(run, tmp_path):
    for path in (tmp_path / 'train' / 'light').iterdir():
        path.write_bytes(b'broken')
    with pytest.raises(ValueError, match=r'classes \[1\] have test but no training images'):
        evaluate(*run)
