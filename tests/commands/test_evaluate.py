import json
import re

import numpy as np
import pytest
from PIL import Image

from mm_graft.commands import evaluate
from mm_graft.commands.main import build_parser
from mm_graft.evaluation.evaluate import PROTOCOLS
from tests.tiny import recorded_checkpoint


def test_every_protocol_can_be_named():
    assert evaluate.PROTOCOLS == PROTOCOLS


def test_each_argument_reaches_its_setting():
    words = ['c.py', 'a.pth', '--protocols', 'knn', '--branch', 'momentum', '--resize', '--pool', 'avg',
             '--cache', 'there',
             '--batch-size', '3', '--workers', '5', '--device', 'cpu', '--strict', '--seeds', '7', '--seed', '11',
             '--ks', '13', '--temperature', '0.5', '--linear-epochs', '17', '--linear-batch-size', '19', '--batch-norm',
             '--select-on-test', '--lr-as-released', '23', '--fewshot-list', 'f',
             '--class-embeddings', 'e.npz', '--blocks', '31', '37']
    parse = build_parser('evaluate').parse_args
    settings = evaluate.settings_of(parse(words))
    protocol, linear = settings.protocol, settings.protocol.linear
    assert (settings.protocols, settings.branch, settings.pool, str(settings.cache)) == (
        ['knn'], 'momentum', 'avg', 'there')
    assert (settings.batch_size, settings.workers, settings.device, settings.strict) == (3, 5, 'cpu', True)
    assert settings.resize
    assert settings.blocks == (31, 37)
    assert (protocol.ks, protocol.temperature, protocol.seeds, protocol.select_on_test) == ((13, ), 0.5, 7, True)
    assert protocol.fewshot_list == 'f'
    assert evaluate.settings_of(parse(['a.pth', '--fewshot-share', '0.25'])).protocol.fewshot_share == 0.25
    assert evaluate.settings_of(parse(['a.pth', '--fewshot-per-class', '29'])).protocol.fewshot_per_class == 29
    assert protocol.class_embeddings == 'e.npz'
    assert (linear.epochs, linear.batch_size, linear.batch_norm, linear.seed) == (17, 19, True, 11)
    assert (linear.as_released, linear.world_size) == (True, 23)


@pytest.mark.parametrize(('option', 'protocols', 'other'), [
    (['--shots', '3'], 'shots', 'knn'), (['--blocks', '1'], 'probe-depth', 'linear'),
    (['--fewshot-per-class', '2'], 'fewshot-1', 'shots'), (['--ks', '3'], 'knn', 'alf'),
    (['--standardize'], 'knn', 'linear'), (['--seeds', '3'], 'fewshot-1', 'knn'), (['--seed', '3'], 'alf', 'knn'),
    (['--pool', 'avg'], 'knn', 'alf'), (['--pool', 'avg'], 'linear', 'linear-dinov2'),
    (['--no-final-norm'], 'linear-dinov2', 'alf'),
    (['--linear-epochs', '2'], 'alf', 'knn'), (['--linear-batch-size', '2'], 'linear-dinov2', 'shots'),
    (['--batch-norm'], 'probe-depth', 'linear-dinov2'), (['--lr-as-released', '2'], 'linear-augmented', 'alf')])
def test_an_option_that_no_wanted_protocol_reads_is_refused(option, protocols, other, tmp_path):
    path = recorded_checkpoint(tmp_path / 'a.pth')
    parser = build_parser('evaluate')
    with pytest.raises(ValueError, match=f'{option[0]} is for .*{protocols}.*leave it out, or add one'):
        evaluate.check(parser.parse_args([path, '--protocols', other, *option]))
    evaluate.check(parser.parse_args([path, '--protocols', other, protocols, *option]))


@pytest.mark.parametrize('option', [['--pool', 'avg'], ['--no-final-norm']])
def test_the_class_with_the_nearest_text_is_found_for_the_features_that_are_asked_for(option, tmp_path):
    path, texts = recorded_checkpoint(tmp_path / 'a.pth'), tmp_path / 'texts.npz'
    texts.touch()
    evaluate.check(build_parser('evaluate').parse_args(
        [path, '--protocols', 'zero-shot', '--class-embeddings', str(texts), *option]))


def test_without_arguments_learning_rates_are_not_scaled_as_released():
    linear = evaluate.settings_of(build_parser('evaluate').parse_args(['c.py', 'a.pth'])).protocol.linear
    assert (linear.as_released, linear.world_size) == (False, 1)


def test_a_checkpoint_that_does_not_exist_is_named(refused, config):
    assert 'checkpoint no/where.pth does not exist' in refused('evaluate', config, 'no/where.pth')


def test_a_checkpoint_and_labeled_folders_are_enough(run, tmp_path):
    for split, count in (('train', 4), ('val', 2)):
        for index in range(2 * count):
            path = tmp_path / 'labeled' / split / 'ab'[index % 2] / f'{index}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 40, 3), 200 * (index % 2), np.uint8)).save(path)
    told = run('evaluate', recorded_checkpoint(tmp_path / 'a.pth'), '--labels', tmp_path / 'labeled', '--protocols',
               'knn', '--ks', 1, '--out', tmp_path / 'out', '--cache', tmp_path / 'cache', '--workers', 0)
    assert 'knn' in told.lower()
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert (report['data']['train']['images'], report['data']['test']['images']) == (8, 4)
    assert report['protocols']['knn']['top1'] == 100


def test_a_checkpoint_that_does_not_say_which_images_it_saw_is_refused_by_name(refused, tmp_path):
    assert '`train_dataloader.dataset`' in refused('evaluate', recorded_checkpoint(tmp_path / 'a.pth'), '--cache',
                                                   tmp_path / 'cache')


def test_zero_shot_needs_test_images_and_class_embeddings_alone(run, refused, tmp_path):
    for index in range(6):
        path = tmp_path / 'val' / ('dark', 'light')[index % 2] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 60, 3), 200 * (index % 2) + index, np.uint8)).save(path)
    np.savez(tmp_path / 'classes.npz', classes=['dark', 'light'], embeddings=np.eye(2, 16))
    words = ['evaluate', recorded_checkpoint(tmp_path / 'a.pth'), '--val', tmp_path / 'val', '--protocols', 'zero-shot',
             '--cache', tmp_path / 'cache', '--workers', 0]
    told = run(*words, '--class-embeddings', tmp_path / 'classes.npz', '--crop-share', 1)
    assert re.search(r'zero-shot +\d+\.\d+ .*classes 2', told)
    assert 'belong together; give both' in refused(*words)
    assert 'class embeddings no.npz does not exist' in refused(*words, '--class-embeddings', 'no.npz')
