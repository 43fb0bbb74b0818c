import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import mm_graft
from mm_graft.checkpoints import CheckpointError
from mm_graft.commands import embedding
from mm_graft.commands.embedding import embed, pooled
from mm_graft.pretrained import Tokens
from tests.tiny import VIT, mae_file


@pytest.fixture
def encoder(tmp_path):
    backbone = dict(type='mm_graft.GraftViT', **VIT)
    return mm_graft.load_encoder(mae_file(tmp_path / 'mae.pth'), Config(dict(model=dict(
        backbone=backbone, data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3)))))


@pytest.fixture
def folder(tmp_path):
    for index in range(5):
        path = tmp_path / 'images' / 'abc'[index % 3] / f'{index}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (tmp_path / 'images' / 'broken.png').write_bytes(b'x')
    return tmp_path / 'images'


def test_each_image_has_its_row(encoder, folder, tmp_path):
    embed(encoder, str(folder), tmp_path / 'out.npz', 'avg', None, 2, Config({}))
    found = np.load(tmp_path / 'out.npz')
    assert found['path'].tolist() == ['a/0.png', 'a/3.png', 'b/1.png', 'b/4.png', 'c/2.png']
    pixels = torch.from_numpy(np.asarray(Image.open(folder / 'b' / '4.png')).copy()).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(torch.from_numpy(found['features'][3:4]), encoder(pixels).patch_tokens.mean(1))
    assert (tmp_path / 'out.npz.unreadable.txt').read_text().startswith('broken.png: ')
    assert not (tmp_path / 'out.npz.parts').exists()


def test_an_interrupted_call_continues_with_the_parts_that_are_there(encoder, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, 'PART', 1)
    embed(encoder, str(folder), tmp_path / 'whole.npz', 'cls', None, 2, Config({}))
    original, calls = embedding.encode_names, []

    def interrupted(encoder, root, names, *args):
        calls.append(names)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(encoder, root, names, *args)

    monkeypatch.setattr(embedding, 'encode_names', interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(encoder, str(folder), tmp_path / 'out.npz', 'cls', None, 2, Config({}))
    assert not (tmp_path / 'out.npz').exists()
    embed(encoder, str(folder), tmp_path / 'out.npz', 'cls', None, 2, Config({}))
    assert calls[2:] == [['b/1.png', 'b/4.png'], ['broken.png', 'c/2.png']]
    for name in ('path', 'features'):
        np.testing.assert_array_equal(np.load(tmp_path / 'out.npz')[name], np.load(tmp_path / 'whole.npz')[name])


def test_parts_of_other_settings_are_not_used(encoder, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, 'write', lambda out, parts: (_ for _ in ()).throw(KeyboardInterrupt))
    for pool in ('cls', 'avg'):
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, str(folder), tmp_path / 'out.npz', pool, None, 2, Config({}))
    assert len(list((tmp_path / 'out.npz.parts').iterdir())) == 2


def test_parts_of_other_weights_of_the_same_sums_and_of_another_normalization_are_not_used(encoder):
    first = embedding.fingerprint(encoder)
    with torch.no_grad():
        weight = encoder.encoder.backbone.layers[0].attn.qkv.weight
        weight.copy_(weight.flip(0))
    second = embedding.fingerprint(encoder)
    encoder.encoder.data_preprocessor.mean += 1
    assert len({first, second, embedding.fingerprint(encoder)}) == 3


def test_parts_of_images_that_changed_since_and_of_other_calls_are_left_alone(encoder, folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(embedding, 'write', lambda out, parts: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed(encoder, str(folder), tmp_path / 'out.npz', 'cls', None, 2, Config({}))
    Image.fromarray(np.full((32, 32, 3), 7, np.uint8)).save(folder / 'a' / '0.png')
    embed(encoder, str(folder), tmp_path / 'out.npz', 'cls', None, 2, Config({}))
    embed(encoder, str(folder), tmp_path / 'new.npz', 'cls', None, 2, Config({}))
    np.testing.assert_array_equal(np.load(tmp_path / 'out.npz')['features'], np.load(tmp_path / 'new.npz')['features'])
    assert len(list((tmp_path / 'out.npz.parts').iterdir())) == 1  # another process may be writing them


def test_pools():
    tokens = Tokens(torch.ones(2, 4), torch.arange(24.0).reshape(2, 3, 4))
    assert pooled(tokens, None, 'x').equal(torch.ones(2, 4))
    assert pooled(tokens, 'avg', 'x').equal(tokens.patch_tokens.mean(1))
    assert pooled(tokens, 'patches', 'x').shape == (2, 3, 4)
    bare = tokens._replace(class_token=None)
    assert pooled(bare, None, 'x').equal(tokens.patch_tokens.mean(1))
    with pytest.raises(CheckpointError, match='x has no class token; give --pool avg'):
        pooled(bare, 'cls', 'x')


def test_parquet_has_a_column_of_paths_and_one_of_features(encoder, folder, tmp_path, monkeypatch):
    parquet = pytest.importorskip('pyarrow.parquet')
    embed(encoder, str(folder), tmp_path / 'out.parquet', 'cls', 2, 4, Config({}))
    table = parquet.read_table(tmp_path / 'out.parquet')
    assert table.column_names == ['path', 'features']
    assert np.array(table['features'].to_pylist()).shape == (5, 16)


def test_without_pyarrow_parquet_is_refused_before_anything_is_encoded(encoder, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='pip install pyarrow'):
        embed(encoder, str(folder), tmp_path / 'out.parquet', 'cls', None, 4, Config({}))
    assert not (tmp_path / 'out.parquet.parts').exists()
