import argparse
import json
import re
import shutil
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mm_graft.commands.evaluate import add_arguments, settings_of
from mm_graft.datasets.transforms import tolerant_image
from mm_graft.evaluation import frozen, shared_images
from mm_graft.evaluation.cache import load_features
from mm_graft.evaluation.frozen import EvaluationSettings, extract_features, prepare
from mm_graft.image_files import BadImageError
from tests.said import said_by


def test_features_are_extracted_when_first_asked_for_and_then_found(run, tmp_path):
    evaluation = prepare(*run)
    assert not (tmp_path / 'cache').exists()
    assert evaluation.data.train_features.shape == (12, 16)
    assert evaluation.data.num_classes == 2
    assert evaluation.data.train_names[0] == 'dark/0.png'
    assert evaluation.folder(evaluation.sets[0]).is_dir()
    assert [found.from_cache for found in evaluation.features] == [False, False]
    again = prepare(*run)
    assert [found.from_cache for found in again.features] == [True, True]
    assert torch.equal(again.data.train_features, evaluation.data.train_features)


def test_train_and_test_features_are_those_of_their_images(run, tmp_path):
    for path in (tmp_path / 'test').rglob('*.png'):
        cv2.imwrite(str(path), np.full((32, 32, 3), 9, np.uint8))
    data = prepare(*run).data
    assert (data.test_features == data.test_features[0]).all()
    assert not (data.train_features == data.train_features[0]).all()
    assert data.train_labels.tolist() == data.test_labels.tolist() == [0] * 6 + [1] * 6


def test_features_may_be_asked_for_before_the_final_norm(run):
    cfg, checkpoint, settings = run
    normed, raw = (prepare(cfg, checkpoint, replace(settings, final_norm=flag)) for flag in (True, False))
    norm = normed.encoder.backbone.ln1.cpu()
    with torch.no_grad():
        torch.testing.assert_close(norm(raw.data.train_features.cpu()), normed.data.train_features.cpu())
    assert not torch.allclose(raw.data.train_features, normed.data.train_features)


def test_bad_images_are_left_out_named_and_known_from_the_cache_too(run, tmp_path, monkeypatch):
    said = said_by('mm_graft.evaluation.frozen', monkeypatch)
    (tmp_path / 'train/dark/2.png').write_bytes(b'broken')
    for _ in range(2):
        evaluation = prepare(*run)
        train, test = evaluation.features
        assert train.indices.tolist() == [0, 1, *range(3, 12)]
        assert [(image.index, image.name[-10:]) for image in train.bad] == [(2, 'dark/2.png')]
        assert test.bad == []
        assert evaluation.data.train_names[:3] == ['dark/0.png', 'dark/1.png', 'dark/3.png']
        assert re.match(r'1 of 12 images cannot be used and are left out: \S*dark/2\.png: ', said.pop())
        assert said == []
    strict = prepare(*run[:2], replace(run[2], strict=True))
    with pytest.raises(ValueError, match=r'dark/2\.png cannot be used'):
        strict.features


def test_a_set_without_a_usable_image_is_an_error(run, tmp_path):
    for path in (tmp_path / 'test').rglob('*.png'):
        path.write_bytes(b'broken')
    with pytest.raises(ValueError, match=r'none of 12 images can be used; first \S*dark/0.png: .*no known image'):
        prepare(*run).features


def test_a_class_without_training_images_is_named(run, tmp_path):
    for path in (tmp_path / 'train/light').iterdir():
        path.write_bytes(b'broken')
    with pytest.raises(ValueError, match=r"classes \['light'\] have test but no training images"):
        prepare(*run).data


def test_positions_of_another_image_size_are_resampled_only_where_that_is_asked_for(run):
    cfg, checkpoint, settings = run
    cfg = cfg.copy()
    cfg.model.backbone.img_size = 2 * cfg.model.backbone.img_size
    with pytest.raises(ValueError, match='resize'):
        prepare(cfg, checkpoint, settings)
    assert prepare(cfg, checkpoint, replace(settings, resize=True)).data.num_classes == 2


def test_weights_that_are_no_numbers_are_named(run):
    cfg, checkpoint, settings = run
    evaluation = prepare(cfg, checkpoint, settings)
    torch.nn.init.constant_(evaluation.encoder.backbone.cls_token, float('nan'))
    with pytest.raises(ValueError, match='12 of 12 images are NaN or infinite; is the checkpoint corrupt'):
        evaluation.features


@pytest.mark.parametrize('change', [
    'pool', 'branch', 'final_norm', 'weights', 'mean', 'std', 'to_rgb', 'backbone', 'transform', 'data', 'sets',
    'device'])
def test_features_are_named_by_everything_that_they_depend_on(run, tmp_path, change):
    cfg, checkpoint, settings = run
    evaluation = prepare(cfg, checkpoint, settings)
    before = evaluation.folder(evaluation.sets[0])
    dataset = evaluation.sets[change == 'sets']
    if change in ('pool', 'branch', 'final_norm', 'device'):
        value = {'pool': 'avg', 'branch': 'momentum', 'final_norm': False, 'device': 'cuda'}[change]
        evaluation = replace(evaluation, settings=replace(settings, **{change: value}))
    elif change == 'weights':
        evaluation = replace(evaluation, sha256='other')
    elif change in ('mean', 'std'):
        getattr(evaluation.encoder.data_preprocessor, change).add_(1)
    elif change == 'to_rgb':
        evaluation.encoder.data_preprocessor.to_rgb = False
    elif change == 'backbone':
        evaluation.cfg.model.backbone.drop_rate = 0.1
    elif change == 'transform':
        dataset.pipeline.transforms.pop()
    elif change == 'data':
        cv2.imwrite(str(tmp_path / 'train/dark/0.png'), np.zeros((31, 31, 3), np.uint8))
    assert before != evaluation.folder(dataset)


def test_weights_may_be_a_folder_of_shards_each_of_which_counts(run, tmp_path):
    cfg, checkpoint, settings = run
    tensors = torch.load(checkpoint, weights_only=True)['state_dict']
    names = sorted(tensors)
    folder = tmp_path / 'shards'
    folder.mkdir()

    def write(number, shard):
        save_file({name: tensors[name].contiguous() for name in shard}, folder / f'{number}.safetensors')

    places = {name: f'{index % 2}.safetensors' for index, name in enumerate(names)}
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': places}))
    for number in (0, 1):
        write(number, names[number::2])
    whole, sharded = prepare(cfg, checkpoint, settings), prepare(cfg, str(folder), settings)
    assert torch.equal(sharded.data.train_features, whole.data.train_features)
    tensors['backbone.ln1.weight'] = 2 * tensors['backbone.ln1.weight']
    write(names.index('backbone.ln1.weight') % 2, names[names.index('backbone.ln1.weight') % 2::2])
    assert not torch.equal(prepare(cfg, str(folder), settings).data.train_features, whole.data.train_features)


def test_one_class_has_nothing_to_tell_apart(run, tmp_path):
    for split in ('train', 'test'):
        shutil.rmtree(tmp_path / split / 'light')
    with pytest.raises(ValueError, match='all 6 training images are of one class; give at least two'):
        prepare(*run).data


def test_training_images_that_are_scored_are_said_to_be_so(run, monkeypatch):
    said = []
    monkeypatch.setattr(shared_images, 'print_log', lambda text, **kwargs: said.append(text))
    cfg, checkpoint, settings = run
    prepare(cfg, checkpoint, settings)
    assert not said
    cfg.test_dataloader = cfg.train_dataloader
    prepare(cfg, checkpoint, settings)
    assert said[0].startswith('the test images are the training images')


def test_a_call_without_settings_does_what_the_command_does_without_options():
    add_arguments(parser := argparse.ArgumentParser())
    args = parser.parse_args(['weights.pth', '--device', 'cpu'])
    found = asdict(settings_of(args))
    found.update(protocols=tuple(found['protocols']), cache=str(found['cache']))
    assert asdict(EvaluationSettings()) == found


def test_only_what_learns_needs_training_images(run, tmp_path):
    cfg, checkpoint, settings = run
    test, = prepare(cfg, checkpoint, replace(settings, protocols=('zero-shot', ))).sets
    assert test[0]['data_samples'].img_path == f'{tmp_path}/test/dark/0.png'
    assert not EvaluationSettings(protocols=('zero-shot', )).learns
    assert EvaluationSettings(protocols=('zero-shot', 'knn')).learns


def as_process(monkeypatch, rank, gathered, found=True):
    """The second of two processes, or the main one, which comes after it."""
    def gather(own):
        gathered[rank] = own
        return [gathered.get(0, []), gathered[1]]

    for name, value in {'get_rank': rank, 'get_world_size': 2, 'is_main_process': rank == 0, 'barrier': None}.items():
        monkeypatch.setattr(frozen, name, lambda value=value: value)
    monkeypatch.setattr(frozen, 'all_gather_object', gather)
    monkeypatch.setattr(frozen, 'broadcast_object_list', lambda objects: objects.__setitem__(0, found))


@pytest.mark.parametrize('broken', [[4, 3], [1, 3, 5, 7, 9, 11]])  # of both processes; all of one
def test_processes_keep_together_what_one_keeps_alone(run, tmp_path, monkeypatch, broken):
    for index in broken:
        (tmp_path / 'train' / ('dark', 'light')[index // 6] / f'{index % 6}.png').write_bytes(b'broken')
    evaluation, settings, gathered = prepare(*run), replace(run[2], batch_size=2), {}
    train, alone, together = evaluation.sets[0], tmp_path / 'alone', tmp_path / 'a/b/together'
    extract_features(alone, evaluation.encoder, train, settings)
    for rank, kept in ((1, [False, False]), (0, [False, True])):
        waits = []
        as_process(monkeypatch, rank, gathered)
        monkeypatch.setattr(frozen, 'barrier', lambda waits=waits: waits.append(together.is_dir()))
        extract_features(together, evaluation.encoder, train, settings)
        assert waits == kept  # for the shares, and for what the main process makes of them
    one, other = load_features(alone, 12), load_features(together, 12)
    assert [image.index for image in other.bad] == sorted(broken)
    assert one.bad == other.bad
    assert other.indices.tolist() == sorted(set(range(12)) - set(broken))
    torch.testing.assert_close(one.features, other.features)
    assert torch.equal(one.labels, other.labels)
    assert [path.name for path in together.parent.iterdir()] == ['together']  # no share is left


def test_another_process_reads_what_the_main_one_found_or_encodes_its_share_of_what_it_did_not(run, monkeypatch):
    main, calls = prepare(*run), []
    kept = main.features
    monkeypatch.setattr(frozen, 'extract_features', lambda folder, *args: calls.append(folder))
    for found in (True, False):
        as_process(monkeypatch, 1, {}, found)
        evaluation = replace(main)
        assert [features.digest for features in evaluation.features] == [features.digest for features in kept]
        assert [features.from_cache for features in evaluation.features] == [found, found]
        assert calls == ([] if found else [evaluation.folder(dataset) for dataset in evaluation.sets])


def test_an_image_that_could_not_be_read_for_a_while_is_read_again_by_a_strict_evaluation(run, monkeypatch):
    def read(path, *args):
        if path.endswith('train/dark/2.png'):
            raise BadImageError('the disk is away')
        return reader(path, *args)

    reader = tolerant_image.read_image_bytes
    monkeypatch.setattr(tolerant_image, 'read_image_bytes', read)
    evaluation = prepare(*run)
    assert [image.index for image in evaluation.features[0].bad] == [2]
    monkeypatch.setattr(tolerant_image, 'read_image_bytes', reader)
    train, test = replace(evaluation, settings=replace(run[2], strict=True)).features
    assert (train.bad, train.indices.tolist(), train.from_cache, test.from_cache) == ([], list(range(12)), False, True)


def test_there_are_as_many_classes_as_names_or_labels(run, tmp_path):
    evaluation = prepare(*run)
    for names, count in ((('dark', 'light', 'none yet'), 3), ((), 2)):
        evaluation.sets[0]._metainfo['classes'] = names
        assert replace(evaluation).data.num_classes == count
    for path in (tmp_path / 'train/light').iterdir():
        path.write_bytes(b'broken')
    with pytest.raises(ValueError, match=r'classes \[1\] have test but no training images'):
        replace(evaluation).data


def test_the_momentum_encoder_is_evaluated_where_it_is_asked_for(run, tmp_path):
    cfg, checkpoint, settings = run
    state = torch.load(checkpoint, weights_only=True)['state_dict']
    momentum = {name.replace('backbone.', 'momentum_encoder.module.0.'): value + 1 for name, value in state.items()}
    torch.save({'state_dict': state | momentum}, tmp_path / 'both.pth')
    for branch, change in (('base', 0), ('momentum', 1)):
        evaluation = prepare(cfg, str(tmp_path / 'both.pth'), replace(settings, branch=branch))
        torch.testing.assert_close(evaluation.encoder.backbone.cls_token, state['backbone.cls_token'] + change)
