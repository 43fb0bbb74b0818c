import io
import zipfile

import pytest
import torch

from mm_graft.checkpoints.archive import Archive, DamagedRecordError, fill, memory
from mm_graft.checkpoints.digest import RECORD, seal
from mm_graft.checkpoints.torch_files import read_archive


def archive(sealed=True, **content):
    file = io.BytesIO()
    torch.save(content or {'model': {'a': torch.arange(3.), 'b': torch.ones(2)}, 'list': [torch.zeros(1)]}, file)
    if sealed:
        seal(file)
    return file


def rewritten(file, change):
    """The archive with other records and right checksums, as a tool would write it."""
    result = io.BytesIO()
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(result, 'w') as target:
        for name, content in change({name: source.read(name) for name in source.namelist()}).items():
            target.writestr(name, content)
    return result


def test_records_are_read_by_name_and_size():
    found = Archive(archive())
    assert found.read('byteorder') == b'little'
    assert bytes(memory(found.storage('0', 12))) == torch.arange(3.).numpy().tobytes()
    for name, size in (('0', 8), ('9', 12)):
        with pytest.raises(DamagedRecordError, match=f'data/{name} is missing, or has not {size} bytes'):
            found.storage(name, size)
    with pytest.raises(DamagedRecordError, match='larger than 3 bytes'):
        found.read('byteorder', 3)


@pytest.mark.parametrize('sealed', [True, False])
def test_a_damaged_storage_is_named_by_its_tensors(sealed):
    raw = bytearray(archive(sealed).getvalue())
    raw[raw.index(torch.arange(3.).numpy().tobytes())] ^= 1
    with pytest.raises(DamagedRecordError, match=r'data/0 \(model\.a\) does not match its checksum'):
        read_archive(io.BytesIO(raw))


def test_content_that_was_changed_together_with_its_checksum_is_seen_by_the_digest():
    def swap(records):
        return {**records, 'archive/data/2': b'\0\0\0@'}

    assert read_archive(rewritten(archive(sealed=False), swap))['list'][0].item() == 2
    with pytest.raises(DamagedRecordError, match=r'data/2 \(list\.0\) does not match its digest'):
        read_archive(rewritten(archive(), swap))


@pytest.mark.parametrize('change', [
    lambda records: {name: content for name, content in records.items() if not name.endswith('version')},
    lambda records: {**records, 'archive/data/7': b''},
    lambda records: {**records, 'archive/data.pkl': records['archive/data.pkl'].replace(b'list', b'lisp')},
    lambda records: {**records, f'archive/{RECORD}': b'{}'},
    lambda records: {**records, f'archive/{RECORD}': b'[]'},
])
def test_records_that_the_digest_does_not_know_and_changed_names_are_seen(change):
    read_archive(rewritten(archive(), dict))
    with pytest.raises((zipfile.BadZipFile, ValueError, AttributeError)):
        read_archive(rewritten(archive(), change))


def test_a_storage_is_filled_from_a_file_to_the_end_or_not_at_all():
    storage = torch.UntypedStorage(5)
    fill(storage, io.BytesIO(b'abcdefg'))
    assert bytes(memory(storage)) == b'abcde'
    with pytest.raises(EOFError, match='ends within'):
        fill(storage, io.BytesIO(b'abc'))
    assert bytes(memory(torch.UntypedStorage(0))) == b''
