import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mm_graft.checkpoints import CheckpointError
from mm_graft.evaluation import evaluate as evaluation
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


@pytest.mark.parametrize('change', ['pool', 'weights', 'transform', 'normalization'])
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
    assert data['bad'] == 1
    assert 'dark/2.png' in data['bad_images'][0]
    cfg, checkpoint, settings = run
    with pytest.raises(ValueError, match=r'dark/2\.png'):
        evaluate(cfg, checkpoint, replace(settings, strict=True))


def test_bad_requests_fail_before_anything_is_written(run, tmp_path):
    cfg, checkpoint, settings = run
    with pytest.raises(ValueError, match='unknown'):
        evaluate(cfg, checkpoint, replace(settings, protocols=['svm']), tmp_path / 'out')
    with pytest.raises(ValueError, match='unknown'):
        evaluate(cfg, checkpoint, replace(settings, protocols=[]), tmp_path / 'out')
    on_test = replace(settings.protocol, select_on_test=True)
    for names in (['knn'], ['linear', 'alf']):
        with pytest.raises(ValueError, match=f'changes nothing of .*{names[-1]}.*leave it out'):
            evaluate(cfg, checkpoint, replace(settings, protocols=names, protocol=on_test), tmp_path / 'out')
    with pytest.raises(CheckpointError, match='does not exist'):
        evaluate(cfg, str(tmp_path / 'none.pth'), settings, tmp_path / 'out')
    with pytest.raises(ValueError, match=r'model\.backbone'):
        evaluate(Config({}), checkpoint, settings, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
    assert not (tmp_path / 'cache').exists()


def test_kept_features_that_are_damaged_are_extracted_anew_and_no_score_is_made_of_them(run, tmp_path):
    expected = evaluate(*run)['protocols']['knn']['top1']
    shutil.rmtree(tmp_path / 'cache/results')  # kept scores, so that features are read
    for file in (tmp_path / 'cache').rglob('features.npy'):
        array = np.full_like(np.array(np.load(file)), np.nan)
        file.unlink()
        np.save(file, array)
    report = evaluate(*run)
    assert report['protocols']['knn']['top1'] == expected == 100
    assert not report['data']['train']['from_cache']


def test_a_kept_score_that_was_changed_is_computed_anew(run, tmp_path):
    expected = evaluate(*run)['protocols']
    for path in (tmp_path / 'cache/results').iterdir():
        path.write_text(path.read_text().replace('"top1": 100', '"top1": 50'))
    found = evaluate(*run)['protocols']
    assert {name: result['top1'] for name, result in found.items()} == {
        name: result['top1'] for name, result in expected.items()}


def test_a_list_of_few_images_is_part_of_the_score(run, tmp_path):
    cfg, checkpoint, settings = run
    path = tmp_path / 'list.txt'
    hashes = []
    for first in ('dark/0.png', 'dark/1.png'):
        path.write_text(f'{first}\nlight/0.png\n')
        listed = replace(settings, protocols=['fewshot-1'],
                         protocol=replace(settings.protocol, fewshot_list=str(path)))
        hashes.append(evaluate(cfg, checkpoint, listed)['protocols']['fewshot-1']['list_sha256'])
    assert hashes[0] != hashes[1]


def test_protocols_on_images_are_kept_by_blocks_and_repeated_like_the_others(run):
    cfg, checkpoint, settings = run
    deep = [evaluate(cfg, checkpoint, replace(settings, protocols=['probe-depth', 'linear-augmented'], blocks=blocks))
            ['protocols'] for blocks in ((2, ), (4, ), (4, ))]
    assert [result['probe-depth']['block'] for result in deep] == [2, 4, 4]
    assert deep[1] == deep[2]
    assert deep[0]['linear-augmented'] != {}


def test_protocols_of_all_processes_come_before_those_of_one(run, monkeypatch):
    """The others would wait for it in a collective call, which has a timeout; the report has the order asked for."""
    asked, done, result = ['knn', 'probe-depth', 'fewshot-1'], [], evaluation.protocol_result
    monkeypatch.setattr(evaluation, 'protocol_result', lambda name, data: done.append(name) or result(name, data))
    cfg, checkpoint, settings = run
    report = evaluate(cfg, checkpoint, replace(settings, protocols=asked))
    assert done == ['probe-depth', 'knn', 'fewshot-1']
    assert list(report['protocols']) == asked


@pytest.mark.parametrize('change', [
    'nothing', 'protocol', 'settings', 'blocks', 'weights', 'version', 'list', 'embeddings', 'features'])
def test_a_score_is_kept_until_something_changes_that_it_depends_on(run, tmp_path, monkeypatch, change):
    calls = []
    for name in ('knn', 'shots'):
        monkeypatch.setitem(evaluation.FROZEN_PROTOCOLS, name, lambda data, settings: calls.append(1) or {'top1': 1.0})
    for name in ('list.txt', 'embeddings.npz'):
        (tmp_path / name).write_text('a')
    cfg, checkpoint, settings = run
    protocol = replace(settings.protocol, fewshot_list=str(tmp_path / 'list.txt'),
                       class_embeddings=str(tmp_path / 'embeddings.npz'))
    found = evaluation.prepare(cfg, checkpoint, replace(settings, protocol=protocol))
    first = evaluation.protocol_result('knn', found)
    assert first['seconds'] >= 0
    if change == 'settings':
        found = replace(found, settings=replace(found.settings, protocol=replace(protocol, temperature=0.5)))
    elif change == 'blocks':
        found = replace(found, settings=replace(found.settings, blocks=(1, )))
    elif change == 'weights':
        features = found.features
        found = replace(found, sha256='other')
        found.features = features  # of the same features
    elif change == 'version':
        monkeypatch.setattr(evaluation, '__version__', 'other')
    elif change in ('list', 'embeddings'):
        (tmp_path / {'list': 'list.txt', 'embeddings': 'embeddings.npz'}[change]).write_text('b')
    elif change == 'features':
        found = replace(found, sets=found.sets[::-1])
    again = evaluation.protocol_result('shots' if change == 'protocol' else 'knn', found)
    assert len(calls) == 1 + (change != 'nothing')
    assert (again == first) == (change == 'nothing')
