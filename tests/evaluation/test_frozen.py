import json
import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mm_graft.evaluation import shared_images
from mm_graft.evaluation.frozen import prepare
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
    'pool', 'branch', 'final_norm', 'weights', 'mean', 'to_rgb', 'backbone', 'transform', 'data', 'sets', 'device'])
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
    elif change == 'mean':
        evaluation.encoder.data_preprocessor.mean += 1
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
