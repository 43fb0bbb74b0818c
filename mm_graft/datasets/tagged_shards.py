"""Images with captions or hashtags from tar shards, for weakly supervised pre-training on more than a disk holds."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice, pairwise, repeat
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mm_graft.datasets.hashtags import LabelSet
from mm_graft.datasets.shards import Shards
from mm_graft.datasets.tag_index import IndexBuilder, TagIndex, read_tags
from mm_graft.datasets.tagged_images import TaggedImages
from mm_graft.files import sha256_of_file
from mm_graft.registry import DATA_SAMPLERS, DATASETS

STARTS = 'shard_starts'


@DATASETS.register_module()
class TaggedShards(TaggedImages):
    """``mm_graft.TaggedImages`` whose images and captions lie in tar shards: ``KEY.jpg`` beside ``KEY.txt``, ``.json``.

    Every shard is read through once, for the index of labels that is kept in ``cache_dir``; later runs and all workers
    map it. It is made anew if the list, a local shard's size or time, or the label file changes; a shard of a store
    that is written again under its old name is not noticed.

    Args:
        shards: as for :class:`mm_graft.datasets.shards.Shards`.
        synsets: file of WordNet synsets and their lemmas, see :func:`mm_graft.datasets.hashtags.read_synsets`.
        vocabulary: or a file with one tag a line, each a label.
        text_key: key of the caption or the tags in a ``.json``.
        cache_dir: for the index, and for shards that were fetched.
        cache_bytes: of fetched shards that are kept; it should hold those that all processes of a machine mix. None:
            all.
        kwargs: as for ``TaggedImages``; ``data_root`` is where ``synsets`` or ``vocabulary`` lies.
    """

    def __init__(self, shards: str | Sequence[str], synsets: str | None = None, vocabulary: str | None = None,
                 text_key: str = 'caption', cache_dir: str = 'data/shards', cache_bytes: int | None = None,
                 **kwargs) -> None:
        self.shards = Shards(shards, Path(cache_dir) / 'fetched', cache_bytes)
        super().__init__(f'{len(self.shards.urls)} shards from {self.shards.urls[0]} on', synsets, vocabulary,
                         text_key=text_key, cache_dir=cache_dir, **kwargs)

    def index_folder(self, label_file: Path) -> Path:
        """Where the index is kept."""
        facts = (self.shards.facts(), sha256_of_file(label_file), self.wordnet, self.text_key)
        return Path(self.cache_dir) / f'index-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}'

    def build_index(self, labels: LabelSet) -> TagIndex:
        """Read all shards through."""
        builder, starts = IndexBuilder(labels), [0]
        for number in range(len(self.shards.urls)):
            for place, text in self.shards.rows(number, self.text_key):
                builder.seen['rows'] += 1
                try:
                    if isinstance(text, ValueError):
                        raise text
                    builder.add(place, read_tags(text))
                except ValueError as error:
                    builder.skip(str(error))
            starts.append(len(builder.places))
        index = builder.finish()
        index.counts[STARTS] = starts
        return index

    @property
    def shard_starts(self) -> np.ndarray:
        """Rows (S + 1,) at which the images of each shard begin."""
        return np.asarray(self.counts[STARTS])

    def get_data_info(self, idx: int) -> dict:
        """Place and labels of an image, whose shard is fetched if need be."""
        row = int(self.rows[idx])
        shard = int(np.searchsorted(self.shard_starts, row, side='right')) - 1
        return {'img_path': f'shard://{self.shards.path(shard)}#{int(self.index.places[row])}',
                'sample_idx': idx % len(self), 'gt_label': self.get_cat_ids(idx)}


@DATA_SAMPLERS.register_module()
class ShardSampler(Sampler):
    """Shards in random order, dealt to the processes; the images of a few shards at a time in random order.

    In an epoch every process has shards of its own and equally many images, a share of all rounded up: where its shards
    have more, the last ones wait for another epoch, where they have fewer, the first ones come again. So uneven shards
    hold up no process. Seed and epoch determine the order.

    Args:
        dataset: ``mm_graft.TaggedShards``, or any data set with ``shard_starts``.
        mixed: shards whose images are mixed: a process needs so many at once.
        seed: of the order; common to all processes if None.
    """

    def __init__(self, dataset: TaggedShards, mixed: int = 4, seed: int | None = None) -> None:
        self.rank, self.world_size = get_dist_info()
        starts = getattr(dataset, 'shard_starts', None)
        if starts is None or starts[-1] != len(dataset):
            raise ValueError('ShardSampler deals out whole shards, those of mm_graft.TaggedShards without `indices`, '
                             'and without a wrapper; leave these out, or use DefaultSampler')
        self.ranges = [(first, last) for first, last in pairwise(starts.tolist()) if last > first]
        if mixed < 1:
            raise ValueError(f'mixed={mixed} is a number of shards; choose at least 1')
        if len(self.ranges) < self.world_size:
            raise ValueError(f'{len(self.ranges)} shards with images cannot be dealt to {self.world_size} processes; '
                             'write smaller shards, or use DefaultSampler')
        self.mixed, self.epoch = mixed, 0
        self.seed = sync_random_seed() if seed is None else seed
        self.length = -(-len(dataset) // self.world_size)

    def own_shards(self, order: Sequence[int]) -> list[int]:
        """Those of this process: each shard in turn goes to whoever has the fewest images so far."""
        loads, owners = np.zeros(self.world_size, np.int64), []
        for shard in order:
            owners.append(int(loads.argmin()))
            loads[owners[-1]] += self.ranges[shard][1] - self.ranges[shard][0]
        return [shard for shard, owner in zip(order, owners) if owner == self.rank]

    def __iter__(self) -> Iterator[int]:
        """This process's share of the epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        own = self.own_shards(torch.randperm(len(self.ranges), generator=generator).tolist())
        groups = [own[first:first + self.mixed] for first in range(0, len(own), self.mixed)]
        mixed = (self.mix(group, generator) for group in chain.from_iterable(repeat(groups)))
        return islice(chain.from_iterable(mixed), self.length)

    def mix(self, shards: Sequence[int], generator: torch.Generator) -> list[int]:
        """Images of some shards in random order."""
        images = np.concatenate([np.arange(*self.ranges[shard]) for shard in shards])
        return images[torch.randperm(len(images), generator=generator).numpy()].tolist()

    def __len__(self) -> int:
        """Images of this process in an epoch."""
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, another order."""
        self.epoch = epoch
