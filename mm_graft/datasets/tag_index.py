"""Where each tagged image stands in a file of captions, and its labels: a few bytes an image, shared by all processes.

The file is read once, line by line; its text never lies in memory. What stays are three arrays on disk that every
process maps: 8 bytes for the place of a row, 8 for the beginning of its labels and 4 for each label, so a hundred
million images of two labels take 2.4 GB that the data loader's workers share.
"""

import csv
import hashlib
import json
import shutil
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from mm_graft.datasets.hashtags import LabelSet, extract_hashtags

REMEMBERED = 100_000  # different unmapped tags; above twice as many the rarest are forgotten
REPORTED = 100
Parse = Callable[[str], dict]


def parse_json(line: str) -> dict:
    """A row of JSON lines."""
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError('a row of JSON lines must be an object')
    return row


def parse_tsv(columns: tuple[str, ...]) -> Parse:
    """Rows of tab-separated values, in columns of these names; a file has no header and quotes mean nothing."""
    def parse(line: str) -> dict:
        values = next(csv.reader([line.rstrip('\r\n')], delimiter='\t', quoting=csv.QUOTE_NONE))
        if len(values) != len(columns):
            raise ValueError(f'{len(values)} values for the columns {columns}')
        return dict(zip(columns, values))

    return parse


@dataclass(frozen=True)
class TagIndex:
    """Rows of a file that have a label.

    Attributes:
        places: (N,) byte at which each row begins.
        starts: (N + 1,) where the labels of each row begin in ``labels``.
        labels: (T,) labels of all rows, one after another.
        counts: what was seen: ``rows`` in the file, of them ``broken`` (not to be parsed, or no image), ``untagged``
            (no hashtag), ``unlabelled`` (no hashtag that means a label) and ``kept``; ``tags``, of them ``unmapped``
            (they mean no label); and ``most_unmapped``, the most frequent of these with their number.
    """

    places: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    counts: dict

    def row_labels(self, row: int) -> np.ndarray:
        """Labels (k,) of a row."""
        return self.labels[self.starts[row]:self.starts[row + 1]]

    def save(self, folder: Path) -> None:
        """Write the folder whole or not at all."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(mkdtemp(dir=folder.parent))
        for name in ('places', 'starts', 'labels'):
            np.save(part / f'{name}.npy', getattr(self, name))
        (part / 'counts.json').write_text(json.dumps(self.counts))
        try:
            part.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(part)

    @classmethod
    def load(cls, folder: Path) -> 'TagIndex':
        """Map the arrays of a folder into memory."""
        arrays = (np.load(folder / f'{name}.npy', mmap_mode='r') for name in ('places', 'starts', 'labels'))
        return cls(*arrays, json.loads((folder / 'counts.json').read_text()))


@dataclass
class _Builder:
    label_set: LabelSet
    places: array = field(default_factory=lambda: array('q'))
    starts: array = field(default_factory=lambda: array('q', [0]))
    labels: array = field(default_factory=lambda: array('i'))
    seen: Counter = field(default_factory=Counter)
    unmapped: Counter = field(default_factory=Counter)

    def add(self, place: int, tags: list[str]) -> None:
        labels, unmapped = self.label_set.labels_of(tags)
        self.seen.update(tags=len(tags), unmapped=len(unmapped), untagged=not tags,
                         unlabelled=bool(tags) and not labels)
        self.unmapped.update(unmapped)
        if len(self.unmapped) > 2 * REMEMBERED:
            self.unmapped = Counter(dict(self.unmapped.most_common(REMEMBERED)))
        if labels:
            self.places.append(place)
            self.labels.extend(labels)
            self.starts.append(len(self.labels))

    def finish(self) -> TagIndex:
        names = ('rows', 'broken', 'untagged', 'unlabelled', 'tags', 'unmapped')
        counts = {**{name: self.seen[name] for name in names}, 'kept': len(self.places),
                  'most_unmapped': self.unmapped.most_common(REPORTED)}
        return TagIndex(np.array(self.places, np.int64), np.array(self.starts, np.int64),
                        np.array(self.labels, np.int32), counts)


def read_tags(value: str | list[str]) -> list[str]:
    """Tags of a row: the hashtags in a text, or a list of tags as it is."""
    return extract_hashtags(value) if isinstance(value, str) else list(value)


def build_index(path: str | Path, label_set: LabelSet, parse: Parse, text_key: str, image_key: str) -> TagIndex:
    """Read a file of captions once and note the rows that have a label; rows that cannot be parsed are counted."""
    builder, place = _Builder(label_set), 0
    with open(path, 'rb') as file:
        for line in file:
            builder.seen['rows'] += 1
            try:
                row = parse(line.decode('utf-8'))
                if not row[image_key]:
                    raise ValueError('a row without an image')
                builder.add(place, read_tags(row[text_key]))
            except (ValueError, KeyError, TypeError):
                builder.seen['broken'] += 1
            place += len(line)
    return builder.finish()


def index_key(path: str | Path, label_file: str | Path, *settings: object) -> str:
    """Name of an index: changes with the file's size and time, the label file's content and the settings."""
    stat = Path(path).stat()
    facts = (stat.st_size, stat.st_mtime_ns, hashlib.sha256(Path(label_file).read_bytes()).hexdigest(), *settings)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
