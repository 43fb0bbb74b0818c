"""Files that are damaged, hostile or something else end in a `CheckpointError`, or are read as what they are."""

import argparse
import contextlib
import json
import os
import pickle
import random
import re
import struct
import zipfile

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS
from safetensors.torch import save_file

from mm_graft.checkpoints import (
    LAYOUT_NAMES,
    CheckpointError,
    Origin,
    convert_file,
    detect_layout,
    load_backbone,
    publish_file,
    read_checkpoint,
)
from mm_graft.checkpoints.containers import read_file
from mm_graft.checkpoints.digest import of_tensors
from mm_graft.checkpoints.files import read_provenance
from mm_graft.checkpoints.intact import corruption_reason, newest_intact, training_meta
from mm_graft.checkpoints.reading import read_content, read_pickle
from tests.damages import DAMAGES, damage
from tests.hostile_files import extension_registered, write_hostile_files

GOLDEN = ('mae_tiny.pth', 'mocov3_tiny.pth.tar', 'conmim_checkpoint-*.pth', 'localmim_checkpoint-*.pth')


@pytest.fixture
def files(golden, tmp_path):
    """Checkpoints of every layout as zip, as the older pickle, and as safetensors, cut small; one of ours is whole."""
    convert_file(Origin(next(golden.glob('mocov3_tiny.pth.tar'))), tmp_path / 'ours.safetensors', 'mmpretrain')
    made = [tmp_path / 'ours.safetensors']
    for pattern in GOLDEN:
        tensors = read_checkpoint(next(golden.glob(pattern)))
        small = {name: tensor.flatten()[:2].clone() for name, tensor in list(tensors.items())[:40]}
        kind = detect_layout(tensors)
        torch.save({'model': small, 'epoch': 1}, tmp_path / f'{kind}.pth')
        torch.save({'state_dict': small}, tmp_path / f'{kind}-old.pth', _use_new_zipfile_serialization=False)
        save_file(small, tmp_path / f'{kind}.safetensors')
        made += [tmp_path / f'{kind}.pth', tmp_path / f'{kind}-old.pth', tmp_path / f'{kind}.safetensors']
    return made


def damaged(content, rng):
    """One random injury: cut, flipped bytes, a hole of zeros, or bytes too many."""
    content, how = bytearray(content), rng.randrange(4)
    if how == 0:
        return bytes(content[:rng.randrange(len(content))])
    for _ in range(rng.choice((1, 3, 30))):
        # headers and pickles are where a reader can be led astray, so half of the injuries go there
        where = rng.randrange(len(content)) if rng.random() < 0.5 else rng.randrange(min(2000, len(content)))
        content[where] = rng.randrange(256)
    if how == 2:
        start = rng.randrange(len(content))
        content[start:start + 64] = bytes(min(64, len(content) - start))
    if how == 3:
        content += rng.randbytes(100)
    return bytes(content)


def try_all(path, content, target, backbone, rng):
    """Convert, publish and load; anything but a success or a `CheckpointError` is the test's failure."""
    path.write_bytes(content)
    kind, branch = rng.choice((None, *LAYOUT_NAMES)), rng.choice(('base', 'momentum'))
    with contextlib.suppress(CheckpointError):
        convert_file(Origin(path, kind, branch), target, rng.choice(LAYOUT_NAMES))
        target.unlink()
    with contextlib.suppress(CheckpointError):
        publish_file(Origin(path, kind, branch), target.parent, 'public', plain=rng.random() < 0.5).unlink()
    assert not list(target.parent.iterdir())
    with contextlib.suppress(CheckpointError):
        load_backbone(backbone, path, kind, branch, resize=rng.random() < 0.5)
    with contextlib.suppress(CheckpointError):
        read_provenance(path)


@pytest.mark.parametrize('rounds', [20, pytest.param(600, marks=pytest.mark.slow)])
def test_damaged_files_and_wrong_kinds_end_in_clean_errors(files, tmp_path, tiny_arch, rounds):
    rng = random.Random(0)
    backbone = MODELS.build(dict(type='VisionTransformer', arch=tiny_arch, img_size=32, patch_size=16))
    (tmp_path / 'out').mkdir()
    for file in files:
        content = file.read_bytes()
        victim = tmp_path / f'victim{file.suffix}'
        for _ in range(rounds):
            try_all(victim, damaged(content, rng), tmp_path / 'out' / 'target.safetensors', backbone, rng)


def test_every_kind_read_as_every_other_ends_in_clean_errors(files, tmp_path):
    target = tmp_path / 'target.pth'
    for file in files:
        for kind in LAYOUT_NAMES:
            with contextlib.suppress(CheckpointError):
                convert_file(Origin(file, kind), target, 'mmpretrain')
                target.unlink()
            assert not target.exists()


def test_tensors_of_wrong_rank_end_in_clean_errors(golden, tmp_path):
    for pattern in GOLDEN:
        tensors = read_checkpoint(next(golden.glob(pattern)))
        for end in ('pos_embed', 'cls_token', 'norm1.weight', 'bias_table'):
            name = next((name for name in reversed(tensors) if name.endswith(end)), 'cls_token')
            for shape in ((), (3,)):
                torch.save({**tensors, name: torch.zeros(shape)}, tmp_path / 'a.pth')
                with contextlib.suppress(CheckpointError):
                    convert_file(Origin(tmp_path / 'a.pth'), tmp_path / 'b.pth', 'mmpretrain', grid=(3, 3))


NEVER_RAN = {'newobj', 'newobj with keywords', 'copyreg', 'python 2 copyreg', 'twice, good first', 'two folders',
             'nested', 'behind a good one', 'TorchScript'}
OPENED = {'setstate'}  # an object of some class of data, which stays an inert record


@pytest.fixture
def hostile(tmp_path):
    """Files by mechanism, and the folder that they make if they run."""
    (tmp_path / 'hostile').mkdir()
    with extension_registered():
        yield write_hostile_files(tmp_path / 'hostile', tmp_path / 'ran'), tmp_path / 'ran'


def test_the_hostile_files_do_run_where_nothing_holds_them(hostile, monkeypatch):
    files, ran = hostile
    methods = HistoryBuffer._statistics_methods  # of the class: one of the files puts a function of its own there
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', dict(methods))
    for what, path in files.items():
        if what in NEVER_RAN or what.startswith('header'):
            continue
        with contextlib.suppress(Exception):
            torch.load(path, weights_only=False) if path.suffix == '.pth' else pickle.loads(path.read_bytes())
        if what == 'before 1.6, magic':
            with contextlib.suppress(Exception):
                pickle.loads(path.read_bytes())
        assert ran.exists(), what
        ran.rmdir()


ROUTES = {
    'read_content': read_content, 'read_checkpoint': read_checkpoint, 'read_provenance': read_provenance,
    'training_meta': training_meta,
    'open file': lambda path: read_content(path.open('rb')),
    'load_backbone': lambda path: load_backbone(torch.nn.Linear(1, 1), path),
    'convert_file': lambda path: convert_file(Origin(path), path.parent / 'out.pth', 'timm'),
    'publish_file': lambda path: publish_file(Origin(path), path.parent, 'public'),
}


@pytest.mark.parametrize('route', ROUTES)
def test_no_file_runs_code_and_its_error_names_it(hostile, route):
    files, ran = hostile
    for what, path in files.items():
        into_tensors = route in ('read_checkpoint', 'load_backbone', 'convert_file', 'publish_file')
        refused = pytest.raises(CheckpointError, match=re.escape(str(path)))
        with refused if into_tensors or what not in OPENED else contextlib.nullcontext():
            ROUTES[route](path)
        assert not ran.exists(), what


def test_no_file_of_a_folder_runs_code_when_a_run_looks_for_its_last(hostile):
    files, ran = hostile
    folder = next(iter(files.values())).parent
    assert newest_intact(folder)[0] is None
    assert all(corruption_reason(path) for what, path in files.items() if what not in OPENED)
    assert not ran.exists()


@pytest.mark.parametrize('length', [2**63 - 1, 2**40, 10**6, 0])
def test_huge_and_empty_headers_of_safetensors_are_refused(tmp_path, length):
    (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', length) + b'{}' * 10)
    with pytest.raises(CheckpointError, match=r'a\.safetensors is damaged'):
        read_checkpoint(tmp_path / 'a.safetensors')


@pytest.mark.parametrize('entry', [
    {'dtype': 'F32', 'shape': [2**60], 'data_offsets': [0, 8]},
    {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 2**50]},
    {'dtype': 'F32', 'shape': [-1], 'data_offsets': [8, 0]},
    {'dtype': 'nonsense', 'shape': [2], 'data_offsets': [0, 8]},
])
def test_headers_that_promise_what_is_not_there_are_refused(tmp_path, entry):
    header = json.dumps({'cls_token': entry}).encode()
    (tmp_path / 'a.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + bytes(8))
    with pytest.raises(CheckpointError, match=r'a\.safetensors is damaged'):
        read_checkpoint(tmp_path / 'a.safetensors')


def test_what_stands_beside_the_tensors_is_named(tmp_path):
    torch.save({'model': {'cls_token': torch.zeros(1), 'step': 3}, 'epoch': 1, 'args': None}, tmp_path / 'a.pth')
    file = read_file(tmp_path / 'a.pth')
    tensors, rest = file.tensors, file.rest
    assert set(tensors) == {'cls_token'}
    assert set(rest) == {'step', 'epoch', 'args'}


def test_a_record_of_provenance_is_read_as_carefully_as_tensors(tmp_path):
    for suffix in ('.pth', '.safetensors'):
        (tmp_path / f'a{suffix}').write_bytes(b'no checkpoint')
        with pytest.raises(CheckpointError, match='is damaged or no checkpoint'):
            read_provenance(tmp_path / f'a{suffix}')
        with pytest.raises(CheckpointError, match='does not exist'):
            read_provenance(tmp_path / f'b{suffix}')
    torch.save([torch.zeros(1)], tmp_path / 'list.pth')
    assert read_provenance(tmp_path / 'list.pth') is None
    save_file({'a': torch.zeros(1)}, tmp_path / 'plain.safetensors')
    assert read_content(tmp_path / 'plain.safetensors').metadata == {}
    assert read_provenance(tmp_path / 'plain.safetensors') is None


def test_files_of_trainings_that_keep_their_arguments_are_read(tmp_path):
    args = argparse.Namespace(lr=1., output_dir='x', norm=None)
    torch.save({'model': {'cls_token': torch.ones(1)}, 'args': args, 'epoch': 3}, tmp_path / 'a.pth')
    file = read_file(tmp_path / 'a.pth')
    tensors, rest = file.tensors, file.rest
    assert tensors['cls_token'].item() == 1
    assert set(rest) == {'args', 'epoch'}


def test_formats_are_known_by_their_content(tmp_path):
    save_file({'a': torch.ones(1)}, tmp_path / 'a.pth')
    torch.save({'a': torch.ones(1)}, tmp_path / 'a.safetensors')
    assert read_checkpoint(tmp_path / 'a.pth').keys() == read_checkpoint(tmp_path / 'a.safetensors').keys() == {'a'}


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / 'a.pth')
    for path, reason in ((tmp_path / 'a.pth', 'a pipe'), ('/dev/zero', 'a device'), (tmp_path, 'a folder'),
                         (tmp_path / 'none', 'does not exist')):
        for reader in (read_checkpoint, training_meta, read_provenance):
            with pytest.raises(CheckpointError, match=f'{path}.* {reason}'):
                reader(path)
    path, wrong = newest_intact(tmp_path)
    assert path is None
    assert 'a pipe' in wrong[tmp_path / 'a.pth']


def test_a_bare_pickle_runs_nothing_either(hostile):
    files, ran = hostile
    with zipfile.ZipFile(files['tar'].parent / '0.pth') as archive:
        reduce = archive.read('archive/data.pkl')
    (ran.parent / 'a.pkl').write_bytes(reduce)
    for path in (files['bare pickle'], ran.parent / 'a.pkl'):
        with pytest.raises(CheckpointError, match=f'{path} would run code'):
            read_pickle(path)
    assert not ran.exists()


def test_a_pickle_of_annotations_is_data(tmp_path):
    content = {'metainfo': {'classes': ('a', )}, 'data_list': [{'img_path': 'a.jpg', 'gt_label': 0}]}
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content))
    assert read_pickle(tmp_path / 'a.pkl') == content


def test_no_damaged_safetensors_of_ours_are_read_as_others(files, tmp_path):
    whole, rng, refused = files[0].read_bytes(), random.Random(0), 0
    expected = of_tensors(read_checkpoint(files[0]))
    for index in range(80):
        (tmp_path / 'victim.safetensors').write_bytes(damage(whole, DAMAGES[index % 4], rng))
        try:
            assert of_tensors(read_checkpoint(tmp_path / 'victim.safetensors')) == expected
        except CheckpointError:
            refused += 1
    assert refused > 60


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    (tmp_path / 'a.pth').write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n')
    with pytest.raises(CheckpointError, match=r'a\.pth is the pointer that Git LFS leaves.*git lfs pull'):
        read_content(tmp_path / 'a.pth')
