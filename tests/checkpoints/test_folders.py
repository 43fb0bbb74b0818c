import json

import pytest
import torch
from safetensors.torch import save_file

from mm_graft.checkpoints import CheckpointError, read_checkpoint
from mm_graft.checkpoints.folders import shards_of, weights_file
from mm_graft.checkpoints.reading import integrity, read_content


def index(folder, places, name='model.safetensors.index.json'):
    (folder / name).write_text(json.dumps({'weight_map': places}))
    return folder / name


def test_safetensors_come_before_pickles_and_an_index_before_one_file(tmp_path):
    order = ['open_clip_pytorch_model.bin', 'pytorch_model.bin', 'pytorch_model.bin.index.json',
             'open_clip_model.safetensors', 'model.safetensors', 'model.safetensors.index.json']
    for name in order:
        (tmp_path / name).touch()
        assert weights_file(tmp_path) == tmp_path / name


def test_one_file_of_any_name_needs_a_config_beside_it(tmp_path):
    (tmp_path / 'weights.pth').touch()
    with pytest.raises(ValueError, match=r'is a folder; give the path of a file in it, of weights\.pth$'):
        weights_file(tmp_path)
    (tmp_path / 'config.json').touch()
    assert weights_file(tmp_path) == tmp_path / 'weights.pth'
    (tmp_path / 'other.pth').touch()
    with pytest.raises(ValueError, match=r'of other\.pth, weights\.pth$'):
        weights_file(tmp_path)
    assert weights_file(tmp_path / 'other.pth') == tmp_path / 'other.pth'


def test_every_shard_gives_what_the_index_says_it_has(tmp_path):
    save_file({'a': torch.ones(2), 'stray': torch.ones(1)}, tmp_path / '1.safetensors')
    save_file({'b': torch.zeros(3)}, tmp_path / '2.safetensors')
    index(tmp_path, {'b': '2.safetensors', 'a': '1.safetensors'})
    assert {name: len(tensor) for name, tensor in read_checkpoint(tmp_path).items()} == {'a': 2, 'b': 3}
    assert read_content(tmp_path / 'model.safetensors.index.json').keys() == {'a', 'b'}
    assert integrity(tmp_path) == 'nothing, as its shards have no digest'
    index(tmp_path, {'a': '2.safetensors'})
    with pytest.raises(CheckpointError, match=r'2\.safetensors lacks a, which .*index\.json says it has'):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(('content', 'message'), [
    ({'weight_map': {'a': '../1.safetensors'}}, r"shard '\.\./1\.safetensors', which is not beside it"),
    ({'weight_map': {'a': '/etc/passwd'}}, 'which is not beside it'),
    ({'weight_map': {'a': 'model.safetensors.index.json'}}, 'which is an index itself'),
    ({'weight_map': {'a': 'gone.bin', 'b': 'away.bin'}}, r'2 shards, of which gone\.bin, away\.bin are not there'),
    ({'weight_map': {}}, 'it has no weight_map'), ({'weight_map': {'a': 3}}, 'it has no weight_map'),
    ([1], 'it has no weight_map'), ('{', 'is not JSON')])
def test_an_index_that_is_none_and_shards_elsewhere_are_refused(tmp_path, content, message):
    path = tmp_path / 'model.safetensors.index.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message):
        shards_of(path)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path)
