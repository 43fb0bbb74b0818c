"""Order of samples in a run, and their random numbers.

PyTorch's loaders seed their workers and not the samples, and hand a data set bare indices: so a sampler, a data set's
way of taking a batch, and the host's way of skipping what was seen are replaced.
"""

from collections.abc import Iterator
from itertools import islice

from torch.utils.data import DataLoader, Dataset, Sampler

from mm_graft.random_state import seed_host_generators

ITERATION, SAMPLE = 0, 1  # keeps the two kinds of seeds apart


class PositionedIndex(int):
    """The index of a sample that also carries its position in the run.

    Attributes:
        place: number of the pass over the data, and position in it.
    """

    def __new__(cls, index: int, place: tuple[int, int]) -> 'PositionedIndex':
        """As an integer is made."""
        self = super().__new__(cls, index)
        self.place = place
        return self

    def __getnewargs__(self) -> tuple[int, tuple[int, int]]:
        """For the way to the processes that load."""
        return int(self), self.place


class PositionedSampler(Sampler):
    """The indices of a sampler from any place on, each a :class:`PositionedIndex`.

    The position counts over all processes, as the host's samplers deal their indices out in turn; so it does not depend
    on the number of processes.
    """

    def __init__(self, sampler: Sampler, rank: int, world_size: int) -> None:
        self.sampler = sampler
        self.dataset = getattr(sampler, 'dataset', None)  # batch samplers that go by the shape of images ask for it
        self.rank = rank
        self.world_size = world_size
        self.passes = 0
        self.first = 0

    def begin(self, passes: int, first: int) -> None:
        """Set the next pass, skipping the first indices of this process."""
        self.passes, self.first = passes, first

    def begin_at(self, num_samples: int) -> None:
        """Start an endless pass later."""
        self.first = num_samples

    def __iter__(self) -> Iterator[PositionedIndex]:
        number, first = self.passes, self.first
        self.passes, self.first = number + 1, 0
        for place, index in islice(enumerate(self.sampler), first, None):
            yield PositionedIndex(index, (number, place * self.world_size + self.rank))

    def __len__(self) -> int:
        return len(self.sampler)


class SeededSamples:
    """Samples of a data set whose randomness is a function of a seed and of their place in the run.

    Stands in for a data set's ``__getitems__``, by which PyTorch's loader takes the samples of a batch.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __call__(self, indices: list[PositionedIndex]) -> list:
        return [self._sample(index) for index in indices]

    def _sample(self, index: PositionedIndex) -> object:
        seed_host_generators(self.seed, SAMPLE, *index.place)
        return self.dataset[int(index)]


def place_samples(loader: DataLoader, seed: int, rank: int, world_size: int) -> PositionedSampler:
    """Make a loader seed every sample by its position; returns the object that sets where a pass begins."""
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    if sampler is None:
        raise ValueError('the seeds of samples follow from their places in a sampler, but the batches of this loader '
                         f'come from {type(loader.batch_sampler).__name__}; use a batch sampler with a `sampler`, or '
                         'remove RNGStateHook')
    placed = PositionedSampler(sampler, rank, world_size)
    loader.batch_sampler.sampler = placed
    loader.dataset.__getitems__ = SeededSamples(loader.dataset, seed)
    if hasattr(sampler, 'skip'):  # asked by the host's loop by iterations when it resumes
        sampler.skip = placed.begin_at
    return placed
