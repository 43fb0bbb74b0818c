"""Tar shards in the layout of WebDataset, on a disk or in an object store, read at any place.

Fetching and the cache are those of ``webdataset``. A shard is fetched whole when the first of its images is wanted, so
that an image is then a seek in a local file; what was read in which order stays the sampler's affair, and a run resumes
as exactly as from a folder.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path, PurePosixPath

from mmengine.fileio import BaseStorageBackend, register_backend

from mm_graft.datasets.tag_index import parse_json_row
from mm_graft.files import TEXT, open_regular
from mm_graft.image_files import EXTENSIONS

READ = 2**16  # bytes behind the last member that are looked at
HEADER = 512  # bytes before the content of a member of a tar file


def cache_name(url: str) -> str:
    """Name of a fetched shard: shards of one name in different places do not meet."""
    return f'{hashlib.sha256(url.encode()).hexdigest()[:16]}_{PurePosixPath(url).name[-100:]}'


class Shards:
    """Where shards are on this machine.

    Args:
        urls: paths and URLs, or one text with braces (``s3/{00000..00999}.tar``); ``pipe:COMMAND`` reads what a command
            writes, such as ``pipe:aws s3 cp s3://bucket/{00000..00999}.tar -``.
        cache_dir: where shards that are no local files are kept.
        cache_bytes: how much is kept there, at least; the oldest shards go first. None: everything.
    """

    def __init__(self, urls: str | Sequence[str], cache_dir: str | Path, cache_bytes: int | None = None) -> None:
        if find_spec('webdataset') is None:
            raise ValueError('tar shards are read by webdataset, which is not installed; pip install webdataset')
        from webdataset.cache import FileCache
        from webdataset.shardlists import expand_urls
        self.urls = expand_urls(urls) if isinstance(urls, str) else list(urls)
        if not self.urls:
            raise ValueError(f'shards={urls!r} names no shard')
        if cache_bytes is not None and cache_bytes < 1:  # webdataset would keep everything
            raise ValueError(f'cache_bytes={cache_bytes} has no room for a shard; choose at least 1, or None for all')
        self.cache = FileCache(str(cache_dir), url_to_name=cache_name, cache_size=cache_bytes or -1)

    def path(self, number: int) -> str:
        """The local file of a shard, which is fetched if need be.

        Raises:
            OSError: it cannot be.
        """
        url = self.urls[number]
        if os.path.exists(url):  # webdataset takes what follows a # or ? for no part of the path
            return url
        try:
            return self.cache.get_file(url)
        except Exception as error:  # of any store or command
            raise OSError(f'shard {url} cannot be fetched: {error}') from error

    def facts(self) -> list:
        """What an index of the shards depends on: their places, and size and time of local ones."""
        stats = [os.stat(url) if os.path.exists(url) else None for url in self.urls]
        return [(url, stat and (stat.st_size, stat.st_mtime_ns)) for url, stat in zip(self.urls, stats)]

    def rows(self, number: int, text_key: str) -> Iterator[tuple[int, str | list[str]]]:
        """Place of the image and the text of every sample of a shard, in their order.

        A text is the content of ``.txt``, or the value of ``text_key`` in ``.json``. A sample without an image or text
        has an exception in the place of the text.

        Raises:
            ValueError: the shard is no plain tar file, or ends early.
        """
        from webdataset.tariterators import base_plus_ext
        path = self.path(number)
        try:
            with tarfile.open(path, 'r:') as shard:
                members = (member for member in shard if member.isreg() and base_plus_ext(member.name)[0])
                for _, group in groupby(members, lambda member: base_plus_ext(member.name)[0]):
                    yield read_sample(shard, {f'.{base_plus_ext(m.name)[1].lower()}': m for m in group}, text_key)
                check_end(shard)
        except (tarfile.TarError, OSError) as error:
            raise ValueError(f'shard {self.urls[number]} is no whole tar file without compression: {error}') from error


def check_end(shard: tarfile.TarFile) -> None:
    """Check that zeros follow the last member: ``tarfile`` takes a header that is cut off, or no more, for the end."""
    shard.fileobj.seek(shard.offset)
    rest = shard.fileobj.read(READ)
    if len(rest) < HEADER:
        raise tarfile.ReadError(f'it ends early, at byte {shard.offset + len(rest)}')
    if rest.strip(b'\0'):
        raise tarfile.ReadError(f'more than zeros follows its end at byte {shard.offset}, as in files joined by cat')


def read_sample(shard: tarfile.TarFile, parts: dict[str, tarfile.TarInfo],
                text_key: str) -> tuple[int, str | list[str] | ValueError]:
    """Place of a sample's image and its text, or an exception that says what is missing."""
    images = [member for ending, member in parts.items() if ending in EXTENSIONS]
    try:
        if len(images) != 1:
            return 0, ValueError(f'{len(images) or "no"} image{"s" * bool(images)} among {sorted(parts)}')
        image = images[0]
        if '.txt' in parts:
            text = shard.extractfile(parts['.txt']).read().decode(TEXT)
        elif '.json' in parts:
            text = parse_json_row(shard.extractfile(parts['.json']).read().decode(TEXT))[text_key]
        else:
            return 0, ValueError(f'{image.name} has neither .txt nor .json beside it')
    except KeyError as error:
        return 0, ValueError(f'there is no {error}')
    except ValueError as error:
        return 0, error
    return image.offset_data - HEADER, text


def read_member(path: str, place: int) -> bytes:
    """Content of the member of a local tar file whose header begins at this byte.

    Raises:
        OSError: there is none, or the file ends before it does.
    """
    with open_regular(path) as file:
        file.seek(place)
        try:
            size = tarfile.TarInfo.frombuf(file.read(HEADER), 'utf-8', 'surrogateescape').size
        except tarfile.HeaderError as error:
            raise OSError(f'no member at byte {place}: {error}') from error
        content = file.read(size)
    if len(content) < size:
        raise OSError(f'{path} ends in the member at byte {place}')
    return content


@register_backend('mm_graft_shard', prefixes='shard')
class ShardBackend(BaseStorageBackend):
    """Lets every transform that loads by the host's file backends read ``shard://FILE.tar#BYTE``."""

    def get(self, filepath: str) -> bytes:
        """Content of a member."""
        path, _, place = str(filepath).removeprefix('shard://').rpartition('#')
        return read_member(path, int(place))

    def get_text(self, filepath: str, encoding: str = 'utf-8') -> str:
        """The same as text."""
        return self.get(filepath).decode(encoding)
