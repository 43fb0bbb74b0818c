"""Images with captions or hashtags from JSON lines or tab-separated values, for weakly supervised pre-training."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from mm_graft.datasets.hashtags import LabelSet, read_synsets, read_vocabulary
from mm_graft.datasets.tag_index import TagIndex, build_index, image_name, index_key, parse_json_row, parse_tsv
from mm_graft.files import LINE_LIMIT, TEXT, open_regular
from mm_graft.registry import DATASETS


@DATASETS.register_module()
class TaggedImages(BaseDataset):
    """Images whose labels are the hashtags beside them; ``gt_label`` is the list of an image's labels.

    A row is ``{"image": "a/b.jpg", "caption": "my #GoldenRetriever at the #beach"}``, one a line (``.tsv``: the values
    alone, separated by tabs). Instead of a text there may be a list of tags. Rows without a label are left out, tags
    that mean no label are counted: ``dataset.counts``, also in the log.

    The text is never held in memory, see :mod:`mm_graft.datasets.tag_index`: at the first use the file is read through
    once, and what is known then is kept on disk; later runs and all workers map it. What is kept is looked at: where it
    does not fit the files, or is damaged, it is rebuilt.

    Args:
        ann_file: the rows; JSON lines unless the name ends in ``.tsv``.
        synsets: file of WordNet synsets and their lemmas, see :func:`mm_graft.datasets.hashtags.read_synsets`.
        vocabulary: or a file with one tag a line, each a label.
        image_key: key of the image's path, relative to ``data_prefix``.
        text_key: key of the text or the tags.
        columns: names of the columns of a ``.tsv``.
        cache_dir: where the index is kept; beside ``ann_file`` if None.
        indices: use only the first n rows that have a label, or those of these numbers.
    """

    def __init__(self, ann_file: str, synsets: str | None = None, vocabulary: str | None = None,
                 image_key: str = 'image', text_key: str = 'caption', columns: Sequence[str] = ('image', 'caption'),
                 cache_dir: str | None = None, indices: int | Sequence[int] | None = None, **kwargs) -> None:
        if (synsets is None) == (vocabulary is None):
            raise ValueError(f'synsets={synsets!r} and vocabulary={vocabulary!r}: give one of them')
        self.label_file, self.wordnet = synsets or vocabulary, synsets is not None
        self.image_key, self.text_key, self.cache_dir = image_key, text_key, cache_dir
        self.parse = parse_tsv(tuple(columns)) if ann_file.endswith('.tsv') else parse_json_row
        self._columns, self._file = tuple(columns), (None, None)
        super().__init__(ann_file=ann_file, indices=indices, serialize_data=False, **kwargs)

    def full_init(self) -> None:
        """Read the labels, and build or load the index."""
        if self._fully_initialized:
            return
        root = Path(self.data_root)
        label_file = root / self.label_file  # an absolute path stays
        labels = (read_synsets if self.wordnet else read_vocabulary)(label_file)
        self._metainfo['classes'] = labels.names
        if is_main_process():  # the others find what it has made, unless their machine has a disk of its own
            self.index = self._load_or_build(labels, label_file)
        barrier()
        if not is_main_process():
            self.index = self._load_or_build(labels, label_file)
        self._report()
        self.rows = self._chosen_rows()
        self._fully_initialized = True

    def _load_or_build(self, labels: LabelSet, label_file: Path) -> TagIndex:
        folder = self.index_folder(label_file)
        if folder.is_dir():
            try:
                return TagIndex.load(folder, len(labels.names))
            except (OSError, ValueError) as error:
                print_log(f'the index of {self.ann_file} is rebuilt: {error}', logger='current',
                          level=logging.WARNING)
        self.build_index(labels).save(folder)
        return TagIndex.load(folder, len(labels.names))

    def index_folder(self, label_file: Path) -> Path:
        """Where the index is kept; another one for other contents and settings."""
        key = index_key(self.ann_file, label_file, self.wordnet, self.image_key, self.text_key, self._columns)
        return Path(self.cache_dir or Path(self.ann_file).parent) / f'{Path(self.ann_file).name}.index-{key}'

    def build_index(self, labels: LabelSet) -> TagIndex:
        """Read the file through."""
        return build_index(self.ann_file, labels, self.parse, self.text_key, self.image_key)

    @property
    def counts(self) -> dict:
        """Counts of the file; see :class:`mm_graft.datasets.tag_index.TagIndex`."""
        return self.index.counts

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def get_data_info(self, idx: int) -> dict:
        """Path and labels of an image."""
        row = int(self.rows[idx])
        image = image_name(self.parse(self._read_line(int(self.index.places[row])))[self.image_key])
        return {'img_path': os.path.join(self.img_prefix, image), 'sample_idx': idx % len(self),
                'gt_label': self.get_cat_ids(idx)}

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of an image."""
        return self.index.row_labels(int(self.rows[idx])).tolist()

    def label_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels of all images one after another, (T,), and where each image's begin, (N + 1,)."""
        if self._indices is None:
            return np.asarray(self.index.labels), np.asarray(self.index.starts)
        rows = [self.index.row_labels(row) for row in self.rows]
        return np.concatenate(rows), np.cumsum([0, *map(len, rows)])

    def _chosen_rows(self) -> Sequence[int]:
        count = self.counts['kept']
        if not count:
            raise ValueError(f'no row of {self.ann_file} has a label of {self.label_file}: {self.counts}; look at the '
                             f'keys (image_key={self.image_key!r}, text_key={self.text_key!r}) and the tags')
        if self._indices is None:
            return range(count)
        if isinstance(self._indices, int):
            chosen = np.arange(count)[:max(0, self._indices)]
        else:
            chosen = np.asarray(self._indices)
        if not len(chosen) or chosen.dtype.kind not in 'iu' or chosen.min() < 0 or chosen.max() >= count:
            raise ValueError(f'indices={self._indices}: {count} rows of {self.ann_file} have a label; give a number of '
                             f'rows from 1 on, or numbers of rows from 0 to {count - 1}')
        return chosen

    def _report(self) -> None:
        counts = {name: value for name, value in self.counts.items() if isinstance(value, int)}
        broken = f'; first broken rows: {"; ".join(self.counts["first_broken"])}' if self.counts['broken'] else ''
        print_log(f'{self.ann_file}: {counts}; most frequent tags that mean no label: '
                  f'{self.counts["most_unmapped"][:10]}{broken}', logger='current')

    def _read_line(self, place: int) -> str:
        pid, file = self._file
        if pid != os.getpid():  # a forked worker must not share the place in the file
            file = open_regular(self.ann_file)  # stays open as long as the data set
            self._file = os.getpid(), file
        file.seek(place)
        return file.readline(LINE_LIMIT).decode(TEXT)

    def __getstate__(self) -> dict:
        """Without the open file, for workers that are spawned."""
        return {**vars(self), '_file': (None, None)}
