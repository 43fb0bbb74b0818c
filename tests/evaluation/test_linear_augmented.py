from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import distributed

from mm_graft.evaluation import linear_augmented as module
from mm_graft.evaluation.evaluate import evaluate
from mm_graft.evaluation.features import encode_together
from mm_graft.evaluation.frozen import prepare
from mm_graft.evaluation.image_protocols import augmented_set
from mm_graft.evaluation.linear_augmented import linear_probe_augmented, regroup
from mm_graft.evaluation.linear_sweep import LinearSweep
from mm_graft.process_group import leave_group
from tests.own_process import in_processes


def test_rows_are_regrouped_in_order():
    batches = [(torch.arange(4.0)[:, None], torch.arange(4)), (torch.arange(4.0, 7.0)[:, None], torch.arange(4, 7))]
    for size, lengths in ((3, [3, 3, 1]), (7, [7]), (1, [1] * 7), (100, [7])):
        groups = list(regroup(batches, size))
        assert [len(labels) for _, labels in groups] == lengths
        assert torch.cat([labels for _, labels in groups]).tolist() == list(range(7))
        assert torch.cat([features for features, _ in groups])[:, 0].tolist() == list(range(7))


def test_dark_and_light_crops_are_told_apart_and_the_seed_matters(run):
    evaluation = prepare(*run)
    linear = replace(run[2].protocol.linear, epochs=6, batch_size=4)
    result = linear_probe_augmented(
        evaluation.encoder, augmented_set(evaluation), list(range(12)), evaluation.data, linear, workers=0)
    assert result.accuracy == 1
    assert result.selected_on == 'held-out training images'
    assert result.lr == result.base_lr * 4 / 256


def test_on_request_the_best_epoch_on_the_test_images_is_reported(run, monkeypatch):
    evaluation, asked = prepare(*run), []
    linear = replace(run[2].protocol.linear, epochs=3, batch_size=4)

    def choose(sweep, settings, chosen_on, test, selected_on, epoch):
        asked.append((chosen_on[0] is test[0] is evaluation.data.test_features, selected_on, epoch))
        return SimpleNamespace(accuracy=[0.3, 0.9, 0.9][epoch - 1], epoch=epoch)

    monkeypatch.setattr('mm_graft.evaluation.linear_augmented.choose_head', choose)
    found = linear_probe_augmented(evaluation.encoder, augmented_set(evaluation), list(range(12)), evaluation.data,
                                   linear, workers=0, select_on_test=True)
    assert found.epoch == 2
    assert asked == [(True, 'test images', epoch) for epoch in (1, 2, 3)]


def test_then_every_training_image_trains(run, monkeypatch):
    evaluation, seen = prepare(*run), []
    linear = replace(run[2].protocol.linear, epochs=1, batch_size=4)

    def encode(encoder, augmented, indices, *args, **kwargs):
        seen.append(sorted(indices))
        return encode_together(encoder, augmented, indices, *args, **kwargs)

    monkeypatch.setattr('mm_graft.evaluation.linear_augmented.encode_together', encode)
    for select_on_test in (False, True):
        linear_probe_augmented(evaluation.encoder, augmented_set(evaluation), list(range(12)), evaluation.data, linear,
                               workers=0, select_on_test=select_on_test)
    assert len(seen[0]) < 12
    assert seen[1] == list(range(12))


def test_every_epoch_draws_anew_in_another_order_at_the_rate_of_a_half_cosine(run, monkeypatch):
    """Row r of the features is image 11 - r; what is held out does not train, and chooses the head."""
    evaluation, asked, steps, chosen = prepare(*run), [], [], []
    data = replace(evaluation.data, train_features=torch.arange(12.0)[:, None].expand(-1, 16))
    linear = replace(run[2].protocol.linear, epochs=3, batch_size=4, seed=7)

    def encode(encoder, augmented, indices, pool, batch_size, workers, progress, draws):
        asked.append((indices, pool, batch_size, workers, draws))
        yield torch.zeros(len(indices), 16), torch.zeros(len(indices), dtype=torch.long)

    def choose(sweep, settings, chosen_on, test, selected_on, epoch):
        chosen.extend(11 - row for row in chosen_on[0][:, 0].tolist())
        assert chosen_on[1].tolist() == [int(row > 5) for row in chosen_on[0][:, 0]]
        assert test == (data.test_features, data.test_labels)
        return epoch

    monkeypatch.setattr(module, 'encode_together', encode)
    monkeypatch.setattr(module, 'choose_head', choose)
    monkeypatch.setattr(LinearSweep, 'step', lambda self, rows, labels, rate: steps.append((len(rows), rate)))
    assert linear_probe_augmented(None, None, list(range(11, -1, -1)), data, linear, 'avg', 5, 1) == 3
    assert sorted(chosen + asked[0][0]) == list(range(12))
    assert len(chosen) == 2  # one of each class
    assert [sorted(indices) for indices, *_ in asked] == [sorted(asked[0][0])] * 3
    assert len({tuple(indices) for indices, *_ in asked}) == 3
    assert [rest for _, *rest in asked] == [['avg', 5, 1, (7, epoch)] for epoch in range(3)]
    assert steps == [(size, pytest.approx(rate)) for rate in (1, 0.75, 0.25) for size in (4, 4, 2)]
    linear_probe_augmented(None, None, list(range(11, -1, -1)), data, replace(linear, seed=8))
    assert asked[3][0] != asked[0][0]
    assert [rest for _, *rest in asked[3:]] == [['cls', 256, 2, (8, epoch)] for epoch in range(3)]


def crops(evaluation, workers=0, draws=(0, 1)):
    """Features and labels of some crops, in an order that is not that of the data."""
    batches = encode_together(evaluation.encoder, augmented_set(evaluation), [7, 2, 11, 0, 5, 9, 1], 'cls', 2, workers,
                              draws=draws)
    return [torch.cat(column) for column in zip(*batches)]


def test_crops_follow_from_seed_epoch_and_image_alone(run):
    evaluation = prepare(*run)
    features, labels = crops(evaluation)
    assert labels.tolist() == [1, 0, 1, 0, 0, 1, 0]
    assert torch.equal(crops(evaluation, workers=2)[0], features)
    for draws in ((1, 1), (0, 2)):
        assert not torch.isclose(crops(evaluation, draws=draws)[0], features).all(1).any()
    assert not torch.equal(crops(evaluation, draws=None)[0], crops(evaluation, draws=None)[0])


def both(rank, folder, cfg, checkpoint, settings, processes):
    distributed.init_process_group('gloo', store=distributed.FileStore(f'{folder}/store{processes}', processes),
                                   rank=rank, world_size=processes)
    report = evaluate(Config(cfg), checkpoint, settings)
    features = crops(prepare(Config(cfg), checkpoint, settings))
    if rank == 0:
        torch.save((features, report['protocols']['linear-augmented']), f'{folder}/{processes}.pth')
    leave_group()


def test_two_processes_find_what_one_finds(run, tmp_path):
    cfg, checkpoint, settings = run
    (tmp_path / 'train' / 'dark' / '3.png').write_bytes(b'no image')
    linear = replace(settings.protocol.linear, epochs=3, batch_size=3)
    for processes in (1, 2):
        kept = replace(settings, protocols=['linear-augmented'], batch_size=2, cache=f'{tmp_path}/cache{processes}',
                       protocol=replace(settings.protocol, linear=linear))
        in_processes(both, str(tmp_path), cfg.to_dict(), checkpoint, kept, processes, processes=processes)
    (one, result), (two, other) = (torch.load(tmp_path / f'{number}.pth', weights_only=False) for number in (1, 2))
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    assert len(one[1]) == 7
    for values in (result, other):
        values.pop('seconds')
    assert result == other
