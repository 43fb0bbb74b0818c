import json
from dataclasses import replace

import pytest
import torch
from mmengine.config import Config

from mm_graft.checkpoints import CheckpointError
from mm_graft.evaluation.evaluate import evaluate


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
    cooler = replace(settings, protocol=replace(settings.protocol, temperature=0.5))
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
    with pytest.raises(ValueError, match='needs a recipe'):
        evaluate(cfg, checkpoint, replace(settings, protocols=['fewshot-10']), tmp_path / 'out')
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
