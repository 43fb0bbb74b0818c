"""Bad images, counted by file, stay counted when a run is resumed."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mm_graft.host.run_requests import asked_to_resume
from mm_graft.registry import HOOKS

KEY = 'bad_images'


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Keep in checkpoints which files of the training set were bad, as hashes of their paths.

    The loader (``mm_graft.TolerantLoadImageFromFile``) has the set and the limit. In a distributed run the files are
    those that the main process met; the others meet theirs again.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note them."""
        checkpoint[KEY] = [hash_ for found in bad_files_of(runner.train_dataloader.dataset) for hash_ in found.hashes()]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on from those of a resumed run."""
        if not asked_to_resume(runner) or KEY not in checkpoint:
            return
        for found in bad_files_of(runner.train_dataloader.dataset):
            for hash_ in checkpoint[KEY]:
                found.add_hash(hash_)


def bad_files_of(dataset: Dataset) -> Iterator:
    """The sets of bad files that the loaders of a data set fill, inside wrappers too."""
    for inner in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if inner is not None:
            yield from bad_files_of(inner)
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        if hasattr(transform, 'bad_files'):
            yield transform.bad_files
