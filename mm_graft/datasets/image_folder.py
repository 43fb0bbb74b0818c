"""A folder of one's own images, with every file seen: used, or passed over and counted."""

from collections.abc import Sequence

from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mm_graft.image_files import EXTENSIONS
from mm_graft.image_folders import labeled_list, list_images
from mm_graft.registry import DATASETS


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """The host's ``CustomDataset``, which reports at the start which files it uses and skips, and why.

    How we differ: every format that can be decoded is read, in any case of the ending; hidden folders, and folders
    without an image, are no classes; ``classes`` are *names*: an image's label is the place of its folder's name in
    ``classes``, so that a validation set in which a class is missing has the numbers of the training set (the host
    numbers the folders that there are). Folders on other storage than disks, and lists (``ann_file``), are read as
    the host does; an error names the first line of a labeled list that is of another form.

    Args:
        extensions: endings of images.
        kwargs: as for the host's; ``classes`` also as a file with a name a line.
    """

    def __init__(self, *args, extensions: Sequence[str] = EXTENSIONS, **kwargs) -> None:
        super().__init__(*args, extensions=extensions, **kwargs)

    def number_by(self, classes: Sequence[str]) -> None:
        """Number the classes by their places in ``classes``, as if these had been given."""
        if self.ann_file:
            raise ValueError(f'{self.ann_file} numbers the classes; write it with the numbers of {classes}')
        self._metainfo['classes'] = tuple(classes)
        self._fully_initialized = False
        self.full_init()

    def load_data_list(self) -> list[dict]:
        """Paths, with labels if there are."""
        if not (self.ann_file and self.with_label
                and isinstance(get_file_backend(self.ann_file, enable_singleton=True), LocalBackend)):
            return super().load_data_list()
        join = get_file_backend(self.img_prefix, enable_singleton=True).join_path
        return [dict(img_path=join(self.img_prefix, name), gt_label=label)
                for name, label in labeled_list(self.ann_file)]

    def _find_samples(self) -> list:
        """Paths, with labels if there are; called by the host where there is no list."""
        if not isinstance(get_file_backend(self.img_prefix, enable_singleton=True), LocalBackend):
            return super()._find_samples()
        classes = self.CLASSES if self.with_label else None
        images = list_images(self.img_prefix, self.with_label, classes, self.extensions)
        print_log(str(images), logger='current')
        if not images.names:
            hint = ('put the images of each class into a folder of its name, or set with_label=False' if self.with_label
                    else 'check the path')
            raise ValueError(f'no images are used of {images}; {hint}')
        if not self.with_label:
            return images.names
        if images.missing and set(images.missing) == set(images.classes):
            raise ValueError(f'no folder of {images} has the name of a class; look at `classes`')
        self.folder_to_idx = {name: number for number, name in enumerate(images.classes)}
        self._metainfo['classes'] = images.classes
        return list(zip(images.names, images.labels))
