"""Counting bad images by file, over all processes and across resumes."""

from collections.abc import Iterator

from mmengine.dist import all_gather_object, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mm_graft.host.run_requests import asked_to_resume
from mm_graft.registry import HOOKS

KEY = 'bad_images'


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Count the bad files of the training set over all processes, and keep them in checkpoints.

    The loader (``mm_graft.TolerantLoadImageFromFile``) holds the set, as hashes of paths, and the limit. Processes
    exchange theirs at the end of an epoch and every ``interval`` iterations.

    Args:
        interval: iterations between two exchanges.
    """

    def __init__(self, interval: int = 1000) -> None:
        self.interval = interval

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                         outputs: dict | None = None) -> None:
        """Exchange bad files between processes."""
        due = self.every_n_train_iters(runner, self.interval) or self.end_of_epoch(runner.train_dataloader, batch_idx)
        if due and get_world_size() > 1:
            share_bad_files(runner.train_dataloader.dataset)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Record the bad files."""
        checkpoint[KEY] = sorted({hash_ for loader in tolerant_loaders(runner.train_dataloader.dataset)
                                  for hash_ in loader.bad_files.hashes()})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the bad files of a resumed run."""
        if not asked_to_resume(runner) or KEY not in checkpoint:
            return
        for loader in tolerant_loaders(runner.train_dataloader.dataset):
            loader.count_more(checkpoint[KEY])


def share_bad_files(dataset: Dataset) -> None:
    """Add the bad files of all processes to the sets of each; all have to call it."""
    loaders = list(tolerant_loaders(dataset))
    for process in all_gather_object([loader.bad_files.hashes() for loader in loaders]):
        for loader, hashes in zip(loaders, process):
            loader.count_more(hashes)


def tolerant_loaders(dataset: Dataset) -> Iterator:
    """The steps of a data set that leave bad files out, inside wrappers too."""
    for inner in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if inner is not None:
            yield from tolerant_loaders(inner)
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        if hasattr(transform, 'bad_files'):
            yield transform
