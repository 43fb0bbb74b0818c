import hashlib
import io
import json
import zipfile

import pytest
import torch

from mm_graft.checkpoints.digest import RECORD, of_tensors, seal
from mm_graft.checkpoints.reading import read_content


def test_an_archive_with_digests_is_read_by_pytorch_too(tmp_path):
    torch.save({'a': torch.arange(3), 'b': 1}, tmp_path / 'a.pth')
    assert seal(tmp_path / 'a.pth')
    for mmap in (False, True):
        assert torch.load(tmp_path / 'a.pth', weights_only=True, mmap=mmap)['a'].tolist() == [0, 1, 2]
    assert read_content(tmp_path / 'a.pth')['a'].tolist() == [0, 1, 2]


def test_the_digest_of_every_record_is_in_it(tmp_path):
    torch.save({'a': torch.arange(3)}, tmp_path / 'a.pth')
    seal(tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as archive:
        digests = json.loads(archive.read(f'a/{RECORD}'))
        assert digests['data/0'] == hashlib.sha256(torch.arange(3).numpy().tobytes()).hexdigest()
        assert {f'a/{name}' for name in digests} | {f'a/{RECORD}'} == set(archive.namelist())


def test_the_same_content_is_the_same_bytes_at_any_time(monkeypatch):
    files = []
    for now in (1e9, 1.5e9):
        monkeypatch.setattr('time.time', lambda now=now: now)
        files.append(io.BytesIO())
        torch.save({'a': torch.arange(3)}, files[-1])
        assert seal(files[-1])
    assert files[0].getvalue() == files[1].getvalue()


def test_other_files_stay_as_they_are(tmp_path):
    (tmp_path / 'text').write_text('PK')
    with zipfile.ZipFile(tmp_path / 'zip', 'w') as archive:
        archive.writestr('a', 'b')
    torch.save({}, tmp_path / 'old', _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        before = path.read_bytes()
        assert not seal(path)
        assert path.read_bytes() == before


@pytest.mark.parametrize('change', [
    dict(name='b'), dict(dtype=torch.int32), dict(shape=(3, 1)), dict(value=1)])
def test_names_types_shapes_and_bytes_count(change):
    def digest(name='a', dtype=torch.float32, shape=(1, 3), value=0):
        tensor = torch.full(shape, value, dtype=dtype)
        return of_tensors({name: tensor, 'empty': torch.empty(0), 'one': torch.tensor(1)})

    assert digest() == digest()
    assert digest(**change) != digest()


def test_the_order_of_tensors_and_their_strides_do_not_count():
    one, other = torch.arange(6.).reshape(2, 3), torch.ones(1)
    assert of_tensors({'a': one, 'b': other}) == of_tensors({'b': other, 'a': one.t().contiguous().t()})
