"""Offset and labels of each tagged image in a caption file: a few bytes per image, shared by all processes.

The file is read once, line by line; its text never lies in memory. What stays are three arrays on disk that every
process maps: 8 bytes for the place of a row, 8 for the beginning of its labels and 4 for each label, so a hundred
million images of two labels take 2.4 GB that the data loader's workers share. An index is found again by the content of
the captions, of the label file and by the settings, and is used only if its arrays are those that were written.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from mm_graft.datasets.hashtags import LabelSet, extract_hashtags
from mm_graft.files import CHECKSUMS, TEXT, parse_json, read_arrays, read_lines, sha256_of_file, write_arrays
from mm_graft.spelling import begin_of

ARRAYS = ('places', 'starts', 'labels')
REMEMBERED = 100_000  # different unmapped tags; above twice as many the rarest are forgotten
REPORTED = 100
NAMED = 5  # broken rows
Parse = Callable[[str], dict]


def parse_json_row(line: str) -> dict:
    """A row of JSON lines."""
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError('a row of JSON lines must be an object')
    return row


def parse_tsv(columns: tuple[str, ...]) -> Parse:
    """Rows of tab-separated values, in columns of these names; a file has no header and quotes mean nothing."""
    def parse(line: str) -> dict:
        values = line.rstrip('\r\n').split('\t')
        if len(values) != len(columns):
            raise ValueError(f'{len(values)} values for the columns {columns}')
        return dict(zip(columns, values))

    return parse


@dataclass(frozen=True)
class TagIndex:
    """Rows of a file that have a label."""

    places: np.ndarray  #: (N,) byte at which each row begins
    starts: np.ndarray  #: (N + 1,) where the labels of each row begin in ``labels``
    labels: np.ndarray  #: (T,) labels of all rows, one after another
    #: what was seen: ``rows`` in the file, of them ``broken`` (not to be parsed, or no usable image), ``untagged`` (no
    #: hashtag), ``unlabeled`` (no hashtag that means a label) and ``kept``; ``tags``, of them ``unmapped`` (they mean
    #: no label); ``most_unmapped``, the most frequent of these with their number; and ``first_broken``, line and reason
    #: of the first broken rows.
    counts: dict

    def row_labels(self, row: int) -> np.ndarray:
        """Labels (k,) of a row."""
        return self.labels[self.starts[row]:self.starts[row + 1]]

    def save(self, folder: Path) -> None:
        """Write the folder atomically, replacing an existing one."""
        write_arrays(folder, {name: getattr(self, name) for name in ARRAYS}, self.counts)

    @classmethod
    def load(cls, folder: Path, num_labels: int) -> 'TagIndex':
        """Map the arrays of a folder, written by :meth:`save`, into memory.

        Raises:
            OSError: it cannot be read.
            ValueError: it holds something else than what was written, or no index for so many labels.
        """
        arrays, counts = read_arrays(folder, ARRAYS, 'r')
        del counts[CHECKSUMS]
        index = cls(*arrays, counts)
        index.check(num_labels)
        return index

    def check(self, num_labels: int) -> None:
        """Check that the parts fit each other."""
        places, starts, labels = self.places, self.starts, self.labels
        fits = (
            (places.dtype, starts.dtype, labels.dtype) == (np.int64, np.int64, np.int32)
            and places.ndim == starts.ndim == labels.ndim == 1 and len(starts) == len(places) + 1
            and self.counts.get('kept') == len(places) and starts[0] == 0 and starts[-1] == len(labels)
            and (not len(labels) or (labels.min() >= 0 and labels.max() < num_labels)))
        if not fits:
            raise ValueError(f'places {places.shape}, starts {starts.shape} and labels {labels.shape} are no index of '
                             f'{self.counts.get("kept")} rows and {num_labels} labels')


@dataclass
class IndexBuilder:
    """Collects the rows of an index one by one, and counts what they are."""

    label_set: LabelSet
    places: array = field(default_factory=lambda: array('q'))
    starts: array = field(default_factory=lambda: array('q', [0]))
    labels: array = field(default_factory=lambda: array('i'))
    seen: Counter = field(default_factory=Counter)
    unmapped: Counter = field(default_factory=Counter)
    first_broken: list[str] = field(default_factory=list)

    def add(self, place: int, tags: list[str]) -> None:
        """A row at a place, with its tags."""
        labels, unmapped = self.label_set.labels_of(tags)
        self.seen.update(tags=len(tags), unmapped=len(unmapped), untagged=not tags,
                         unlabeled=bool(tags) and not labels)
        self.unmapped.update(unmapped)
        if len(self.unmapped) > 2 * REMEMBERED:
            self.unmapped = Counter(dict(self.unmapped.most_common(REMEMBERED)))
        if labels:
            self.places.append(place)
            self.labels.extend(labels)
            self.starts.append(len(self.labels))

    def skip(self, reason: str) -> None:
        """A row that cannot be used."""
        self.seen['broken'] += 1
        if len(self.first_broken) < NAMED:
            self.first_broken.append(f'line {self.seen["rows"]}: {reason}')

    def finish(self) -> TagIndex:
        """The index of the rows so far."""
        names = ('rows', 'broken', 'untagged', 'unlabeled', 'tags', 'unmapped')
        counts = {**{name: self.seen[name] for name in names}, 'kept': len(self.places),
                  'most_unmapped': self.unmapped.most_common(REPORTED), 'first_broken': self.first_broken}
        return TagIndex(np.array(self.places, np.int64), np.array(self.starts, np.int64),
                        np.array(self.labels, np.int32), counts)


def read_tags(value: str | list[str]) -> list[str]:
    """Tags of a row: the hashtags in a text, or a list of tags as it is."""
    if isinstance(value, str):
        return extract_hashtags(value)
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise ValueError(f'{begin_of(value)} is neither a text nor a list of tags')
    return value


def image_name(value: object) -> str:
    """The path of an image below the folder of all images; one that leads out of it is an error."""
    if not isinstance(value, str) or not value or '\0' in value:
        raise ValueError(f'the image {begin_of(value)} is no path')
    if PurePosixPath(value).is_absolute() or '..' in PurePosixPath(value).parts:
        raise ValueError(f'the image {begin_of(value)} lies outside the folder of the images')
    return value


def build_index(path: str | Path, label_set: LabelSet, parse: Parse, text_key: str, image_key: str) -> TagIndex:
    """Read a file of captions once and note the rows that have a label; rows that cannot be used are counted."""
    builder, place = IndexBuilder(label_set), 0
    for line in read_lines(path):
        builder.seen['rows'] += 1
        try:
            row = parse(line.decode(TEXT))
            image_name(row[image_key])
            builder.add(place, read_tags(row[text_key]))
        except KeyError as error:
            builder.skip(f'there is no {error}')
        except ValueError as error:
            builder.skip(str(error))
        place += len(line)
    return builder.finish()


def index_key(path: str | Path, label_file: str | Path, *settings: object) -> str:
    """Name of an index: changes with the content of both files and with the settings."""
    facts = (sha256_of_file(path), sha256_of_file(label_file), *settings)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
