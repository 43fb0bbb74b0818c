import re
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch
from scipy.stats import binomtest

from mm_graft.evaluation.fewshot import fewshot_logreg
from mm_graft.evaluation.knn import knn_accuracy, standardized
from mm_graft.evaluation.linear_probe import (
    LinearProbeSettings,
    linear_probe,
    linear_probe_selected_on_test,
    sweep_grid,
)
from mm_graft.evaluation.protocols import (
    FROZEN_PROTOCOLS,
    FrozenData,
    ProtocolSettings,
    over_seeds,
    percent,
    wilson_interval,
)
from mm_graft.evaluation.report import report_table
from mm_graft.evaluation.splits import pick_per_class, pick_share, sha256_of_list

SETTINGS = ProtocolSettings(
    linear=LinearProbeSettings(grid=tuple(sweep_grid((1, 10))), epochs=5, batch_size=64), fewshot_share=0.1)


def planted(count=200, classes=4, noise=0.05, seed=0) -> tuple:
    labels = torch.arange(count) % classes
    features = noise * torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    features[torch.arange(count), labels] += 1
    return features, labels


def data(**kwargs) -> FrozenData:
    return FrozenData(*planted(**kwargs), *planted(seed=1, **kwargs), 4, [f'{row}.jpg' for row in range(200)])


@pytest.mark.parametrize('name', FROZEN_PROTOCOLS)
def test_planted_classes_are_found_by_every_protocol(name):
    result = FROZEN_PROTOCOLS[name](data(), SETTINGS)
    assert result['top1'] == 100
    low, high = result['interval95']
    assert 98 < low < high == 100
    *_, how = report_table({'protocols': {name: result}}).splitlines()[2].split('  ')
    assert re.search(r'\d|images', how)


def test_seeds_are_averaged_and_their_spread_reported():
    noisy = data(noise=0.7)
    result = FROZEN_PROTOCOLS['fewshot-1'](noisy, replace(SETTINGS, seeds=3))
    assert len(result['top1_by_seed']) == 3
    assert result['top1'] == pytest.approx(sum(result['top1_by_seed']) / 3)
    assert result['std_over_seeds'] > 0
    assert 'std_over_seeds' not in over_seeds([0.5], 10)


def test_no_images_a_class_are_refused_and_no_share_is_drawn_instead():
    with pytest.raises(ValueError, match='per_class=0'):
        FROZEN_PROTOCOLS['fewshot-1'](data(), replace(SETTINGS, fewshot_per_class=0))


def test_few_shot_list_decides_the_images_and_its_hash_is_reported(tmp_path):
    (tmp_path / 'list.txt').write_text(''.join(f'{row}.jpg\n' for row in range(8)))
    listed = FROZEN_PROTOCOLS['fewshot-1'](data(), replace(SETTINGS, fewshot_list=str(tmp_path / 'list.txt')))
    drawn = FROZEN_PROTOCOLS['fewshot-1'](data(), replace(SETTINGS, fewshot_per_class=2))
    assert listed['train_images'] == drawn['train_images'] == 8
    assert listed['list_sha256'] != drawn['list_sha256']
    (tmp_path / 'list.txt').write_text('0.jpg\n1.jpg\n2.jpg\n')
    with pytest.raises(ValueError, match='no training image'):
        FROZEN_PROTOCOLS['fewshot-1'](data(), replace(SETTINGS, fewshot_list=str(tmp_path / 'list.txt')))


def test_linear_report_says_on_what_the_head_was_chosen():
    assert FROZEN_PROTOCOLS['linear'](data(), SETTINGS)['selected_on'] == 'held-out training images'
    assert FROZEN_PROTOCOLS['linear'](data(), replace(SETTINGS, select_on_test=True))['selected_on'] == 'test images'


def test_knn_leaves_out_k_beyond_the_training_set():
    assert FROZEN_PROTOCOLS['knn'](data(), replace(SETTINGS, ks=(500, 7)))['top1_by_k'].keys() == {'7'}
    assert FROZEN_PROTOCOLS['knn'](data(), replace(SETTINGS, ks=(500,)))['k'] == 200


def test_accuracy_is_given_in_percent_with_its_interval():
    result = percent(0.5, 10)
    assert result['top1'] == 50
    assert result['interval95'] == pytest.approx([23.66, 76.34], abs=0.01)


@pytest.mark.parametrize('hits', [0, 1, 6, 7])
@pytest.mark.parametrize('confidence', [0.9, 0.95])
def test_wilsons_interval_is_that_of_scipy(hits, confidence):
    expected = binomtest(hits, 7).proportion_ci(confidence, 'wilson')
    found = wilson_interval(hits, 7, confidence)
    assert found == pytest.approx([expected.low, expected.high], abs=1e-12)
    assert 0 <= found[0] < found[1] <= 1


def test_knn_can_be_asked_to_standardize_first():
    noisy = data(noise=0.7)
    for features in (noisy.train_features, noisy.test_features):
        features[:, 4:] *= 20  # what says nothing weighs most
    plain, standard = (FROZEN_PROTOCOLS['knn'](noisy, replace(SETTINGS, standardize=flag)) for flag in (False, True))
    train, test = standardized(noisy.train_features, noisy.test_features)
    by_hand = FROZEN_PROTOCOLS['knn'](replace(noisy, train_features=train, test_features=test), SETTINGS)
    assert standard['top1'] == by_hand['top1'] > plain['top1']
    assert (plain['standardized'], standard['standardized']) == (False, True)


def test_shots_are_reported_for_every_number_of_images():
    result = FROZEN_PROTOCOLS['shots'](data(noise=0.6), replace(SETTINGS, shots=(1, 5)))
    one, five = (result['by_images_per_class'][count] for count in ('1', '5'))
    assert list(result['by_images_per_class']) == ['1', '5']
    assert result['top1'] == pytest.approx(one['top1'])
    assert one['top1'] < five['top1'] == pytest.approx(fmean(five['top1_by_split']))
    assert five['std_over_splits'] == pytest.approx(stdev(five['top1_by_split']))
    assert len(five['top1_by_split']) == result['splits'] == 3
    with pytest.raises(ValueError, match='fewer than per_class=51'):
        FROZEN_PROTOCOLS['shots'](data(), replace(SETTINGS, shots=(51, )))
    for protocol, settings in (('shots', dict(shots=(51, ))), ('fewshot-1', dict(fewshot_per_class=51))):
        with pytest.raises(ValueError, match="class 'a' has 50 images"):
            FROZEN_PROTOCOLS[protocol](replace(data(), classes='abcd'), replace(SETTINGS, **settings))


def test_each_split_of_the_shots_is_drawn_from_a_seed_of_its_own_and_scored_on_all_test_images():
    noisy = data(noise=0.5)
    settings = replace(SETTINGS, shots=(2, ), linear=replace(SETTINGS.linear, seed=5))
    found = FROZEN_PROTOCOLS['shots'](noisy, settings)['by_images_per_class']['2']['top1_by_split']
    for seed, value in zip((5, 6, 7), found, strict=True):
        rows = torch.from_numpy(pick_per_class(noisy.train_labels.numpy(), 2, seed))
        assert len(rows) == 8
        assert value == 100 * fewshot_logreg(noisy.train_features[rows], noisy.train_labels[rows],
                                             noisy.test_features, noisy.test_labels, 4).accuracy


def test_knn_reports_what_was_asked_for_and_the_first_number_of_neighbors_is_the_headline():
    noisy = data(noise=0.7)
    result = FROZEN_PROTOCOLS['knn'](noisy, replace(SETTINGS, ks=(500, 7, 3, 40), temperature=0.5))
    expected = knn_accuracy(noisy.train_features, noisy.train_labels, noisy.test_features, noisy.test_labels,
                            (7, 3, 40), 0.5, 4)
    assert result['top1_by_k'] == {str(k): 100 * value for k, value in expected.items()}
    assert (result['k'], result['temperature']) == (7, 0.5)
    assert result['top1'] == pytest.approx(100 * expected[7])
    assert len(set(expected.values())) == 3


@pytest.mark.parametrize(('probe', 'on_test'), [(linear_probe, False), (linear_probe_selected_on_test, True)])
def test_the_linear_grid_is_run_once_for_every_seed_from_the_first_on(probe, on_test):
    noisy = data(noise=0.7)
    settings = replace(SETTINGS, seeds=2, select_on_test=on_test, linear=replace(SETTINGS.linear, seed=3))
    result = FROZEN_PROTOCOLS['linear'](noisy, settings)
    alone = [probe(noisy.train_features, noisy.train_labels, noisy.test_features, noisy.test_labels, 4,
                   replace(settings.linear, seed=seed)) for seed in (3, 4)]
    assert result['top1_by_seed'] == [100 * one.accuracy for one in alone]
    assert result['std_over_seeds'] == pytest.approx(100 * stdev(one.accuracy for one in alone))
    names = ('base_lr', 'lr', 'weight_decay', 'epoch', 'selected_on')
    assert [result[name] for name in names] == [getattr(alone[0], name) for name in names]
    assert result['selection_top1'] == 100 * alone[0].selection_accuracy
    assert (result['heads'], result['batch_size'], result['batch_norm']) == (4, 64, False)
    assert result['lr_scale'].startswith('linear rule')
    released = replace(settings, linear=replace(settings.linear, as_released=True, world_size=2))
    assert FROZEN_PROTOCOLS['linear'](noisy, released)['lr_scale'].startswith('as released')


def test_few_shots_say_their_images_their_penalty_and_the_list_of_the_first_seed(tmp_path):
    noisy, settings = data(noise=0.7), replace(SETTINGS, seeds=2, linear=replace(SETTINGS.linear, seed=5))
    result = FROZEN_PROTOCOLS['fewshot-1'](noisy, settings)
    rows = pick_share(noisy.train_labels.numpy(), 0.1, 5)
    assert (result['train_images'], result['lambda']) == (20, pytest.approx(0.00025 / 20))
    assert result['list_sha256'] == sha256_of_list([f'{row}.jpg' for row in rows])
    nameless = FROZEN_PROTOCOLS['fewshot-1'](replace(noisy, train_names=()), settings)
    assert nameless['list_sha256'] == sha256_of_list([str(row) for row in rows])
    (tmp_path / 'list.txt').write_text(''.join(f'{row}.jpg\n' for row in rows))
    listed = FROZEN_PROTOCOLS['fewshot-1'](noisy, replace(settings, fewshot_list=str(tmp_path / 'list.txt')))
    assert listed['top1'] == result['top1_by_seed'][0]
    assert 'top1_by_seed' not in listed  # of one list there is one result
    assert (listed['list'], listed['list_sha256']) == (str(tmp_path / 'list.txt'), result['list_sha256'])


def test_more_seeds_are_more_splits_of_the_shots():
    assert FROZEN_PROTOCOLS['shots'](data(), replace(SETTINGS, shots=(1, ), seeds=5))['splits'] == 5
