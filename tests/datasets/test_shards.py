import io
import json
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
from mmengine.fileio import get, get_text
from PIL import Image

from mm_graft.datasets import shards as module
from mm_graft.datasets.shards import Shards, cache_name, read_member


def picture(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, 'png')
    return file.getvalue()


def write_shard(path, files: dict[str, bytes], mode: str = 'w') -> None:
    with tarfile.open(path, mode) as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))


SAMPLES = {'a/0.png': picture(1), 'a/0.txt': '#Dog, müde'.encode(), 'a/1.json': json.dumps({'text': ['sea']}).encode(),
           'a/1.PNG': picture(2), f'{"long" * 60}.jpg': picture(3), f'{"long" * 60}.txt': b'#sea'}


@pytest.fixture
def shard(tmp_path):
    write_shard(tmp_path / '0.tar', SAMPLES)
    return tmp_path / '0.tar'


def test_every_sample_has_the_place_of_its_image_and_its_text(shard, tmp_path):
    rows = list(Shards([str(shard)], tmp_path).rows(0, 'text'))
    assert [text for _, text in rows] == ['#Dog, müde', ['sea'], '#sea']
    assert [read_member(str(shard), place) for place, _ in rows] == [picture(value) for value in (1, 2, 3)]


def test_a_shard_that_ends_anywhere_before_its_end_or_goes_on_behind_it_is_an_error(shard, tmp_path):
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + 512
    for content in (*(whole[:cut] for cut in range(100, end + 512, 100)), whole[:last.offset], whole[:end], whole * 2):
        shard.write_bytes(content)
        with pytest.raises(ValueError, match=r'0\.tar is no whole tar file'):
            list(Shards([str(shard)], tmp_path).rows(0, 'text'))
    shard.write_bytes(whole[:end + 512])
    assert len(list(Shards([str(shard)], tmp_path).rows(0, 'text'))) == 3


def test_samples_that_lack_something_say_what(tmp_path):
    write_shard(tmp_path / '0.tar', {'a.txt': b'#dog', 'b.png': picture(1), 'c.png': picture(1), 'c.json': b'{}',
                                     'd.png': picture(1), 'd.json': b'[]', 'e.png': picture(1), 'e.txt': b'\xff',
                                     'nothing': b'', 'f.png': picture(1), 'f.txt': b'#dog'})
    texts = [text for _, text in Shards([str(tmp_path / '0.tar')], tmp_path).rows(0, 'text')]
    assert all(isinstance(text, ValueError) for text in texts[:5])
    for text, reason in zip(texts, ("no image among ['.txt']", 'neither .txt nor .json', "there is no 'text'",
                                    'must be an object', 'decode')):
        assert reason in str(text)
    assert texts[5:] == ['#dog']


def test_of_two_images_none_is_taken_for_the_one_of_the_text(tmp_path):
    write_shard(tmp_path / '0.tar', {'a.png': picture(1), 'a.jpg': picture(2), 'a.txt': b'#dog'})
    (_, reason), = Shards([str(tmp_path / '0.tar')], tmp_path).rows(0, 'text')
    assert "2 images among ['.jpg', '.png', '.txt']" in str(reason)


def test_what_is_no_file_or_has_no_key_belongs_to_no_sample(tmp_path):
    with tarfile.open(tmp_path / '0.tar', 'w') as shard:
        for name, kind, content in (
                ('a', tarfile.DIRTYPE, b''), ('a/0.png', tarfile.REGTYPE, picture(1)),
                ('a/0.jpg', tarfile.SYMTYPE, b''), ('a/0.txt', tarfile.REGTYPE, b'#dog'),
                ('a/.hidden', tarfile.REGTYPE, b'x')):
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content)
            shard.addfile(member, io.BytesIO(content))
    (place, text), *others = Shards([str(tmp_path / '0.tar')], tmp_path).rows(0, 'text')
    assert (read_member(str(tmp_path / '0.tar'), place), text) == (picture(1), '#dog')
    assert all(isinstance(reason, ValueError) for _, reason in others)


def test_a_mark_at_the_beginning_of_a_text_is_no_part_of_it(tmp_path):
    write_shard(tmp_path / '0.tar', {'a.png': picture(1), 'a.txt': b'\xef\xbb\xbf#dog', 'b.png': picture(2),
                                     'b.json': b'\xef\xbb\xbf{"text": "#sea"}'})
    assert [text for _, text in Shards([str(tmp_path / '0.tar')], tmp_path).rows(0, 'text')] == ['#dog', '#sea']


def test_the_hosts_backends_read_a_member(shard, tmp_path):
    place = next(Shards([str(shard)], tmp_path).rows(0, 'text'))[0]
    assert get(f'shard://{shard}#{place}') == picture(1)
    odd = shard.parent / 'a#1'
    odd.mkdir()
    assert get(f'shard://{shard.rename(odd / "0.tar")}#{place}') == picture(1)
    with tarfile.open(odd / '0.tar') as tar:
        place = tar.getmember('a/0.txt').offset
    assert get_text(f'shard://{odd}/0.tar#{place}') == '#Dog, müde'


def test_a_member_that_is_not_there_or_is_cut_is_an_error(shard, tmp_path):
    place = list(Shards([str(shard)], tmp_path).rows(0, 'text'))[1][0]
    with pytest.raises(OSError, match=f'no member at byte {place + 512}'):
        read_member(str(shard), place + 512)
    shard.write_bytes(shard.read_bytes()[:place + 520])
    with pytest.raises(OSError, match='ends in the member'):
        read_member(str(shard), place)


def test_a_list_is_a_text_with_braces_or_a_sequence(tmp_path):
    assert Shards('s/{00..02}.tar', tmp_path).urls == ['s/00.tar', 's/01.tar', 's/02.tar']
    assert Shards(('b', 'a'), tmp_path).urls == ['b', 'a']
    with pytest.raises(ValueError, match='names no shard'):
        Shards([], tmp_path)


@pytest.mark.parametrize('folder', ['a#1', 'b?c=1', 'd;e', 'f g'])
def test_a_local_path_may_have_any_sign(shard, tmp_path, folder):
    (tmp_path / folder).mkdir()
    shards = Shards([str(shard.rename(tmp_path / folder / '0.tar'))], tmp_path)
    place, text = next(shards.rows(0, 'text'))
    assert (get(f'shard://{shards.path(0)}#{place}'), text) == (picture(1), '#Dog, müde')


@pytest.mark.parametrize('cache_bytes', [0, -1])
def test_room_for_no_shard_is_refused(tmp_path, cache_bytes):
    with pytest.raises(ValueError, match=f'cache_bytes={cache_bytes} has no room'):
        Shards('0.tar', tmp_path, cache_bytes)


@pytest.mark.parametrize('content', [b'no tar', None])
def test_what_is_no_plain_tar_file_is_named(content, tmp_path):
    if content is None:
        write_shard(tmp_path / '0.tar', SAMPLES, 'w:gz')
    else:
        (tmp_path / '0.tar').write_bytes(content)
    with pytest.raises(ValueError, match=r'0\.tar is no whole tar file without compression'):
        list(Shards([str(tmp_path / '0.tar')], tmp_path).rows(0, 'text'))


def test_a_store_is_asked_once_and_shards_of_one_name_do_not_meet(shard, tmp_path):
    (tmp_path / 'other').mkdir()
    write_shard(tmp_path / 'other' / '0.tar', {'z.png': picture(9), 'z.txt': b'#z'})
    urls = [f'pipe:cat {path} && echo >> {tmp_path}/asked' for path in (shard, tmp_path / 'other' / '0.tar')]
    shards = pickle.loads(pickle.dumps(Shards(urls, tmp_path / 'kept')))
    paths = [shards.path(number) for number in (0, 1, 0)]
    assert paths[0] == paths[2] != paths[1]
    assert [next(shards.rows(number, 'text'))[1] for number in (0, 1)] == ['#Dog, müde', '#z']
    assert (tmp_path / 'asked').read_text() == '\n\n'
    assert cache_name('s3://a/0.tar') != cache_name('s3://b/0.tar')
    assert cache_name('s3://a/0.tar').endswith('_0.tar')
    assert len(cache_name('pipe:' + 300 * 'x')) < 255  # what file systems take


def test_shards_of_one_name_in_two_buckets_do_not_meet(shard, tmp_path, monkeypatch):
    monkeypatch.setattr('webdataset.cache.download', lambda url, path, **kwargs: shutil.copy(shard, path))
    shards = Shards(['s3://a/0.tar', 's3://b/0.tar'], tmp_path / 'kept')
    assert shards.path(0) != shards.path(1)


@pytest.mark.parametrize(('cache_bytes', 'kept'), [(None, 2), (1, 1), (2**30, 2)])
def test_of_fetched_shards_the_oldest_go_where_there_is_no_room(shard, tmp_path, cache_bytes, kept):
    for mark in ('true', 'echo'):  # other commands, other shards; each process looks at the room when it starts
        Shards([f'pipe:cat {shard} && {mark}'], tmp_path / 'kept', cache_bytes).path(0)
    assert len(list((tmp_path / 'kept').iterdir())) == kept


def test_a_shard_that_cannot_be_fetched_is_named(tmp_path):
    with pytest.raises(OSError, match='shard pipe:false cannot be fetched'):
        Shards(['pipe:false'], tmp_path).path(0)


def test_an_index_depends_on_local_files_and_on_names(shard, tmp_path):
    before = Shards([str(shard), 'pipe:x'], tmp_path).facts()
    assert before == Shards([str(shard), 'pipe:x'], tmp_path).facts()
    assert before != Shards([str(shard), 'pipe:y'], tmp_path).facts()
    times = shard.stat()
    shard.write_bytes(shard.read_bytes() + bytes(512))
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
    longer = Shards([str(shard), 'pipe:x'], tmp_path).facts()
    assert before != longer
    os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert longer != Shards([str(shard), 'pipe:x'], tmp_path).facts()


def test_without_webdataset_the_error_has_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match='pip install webdataset'):
        Shards('0.tar', tmp_path)
