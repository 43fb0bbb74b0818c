"""Which files of a folder are images, which classes they have, and what is passed over: the one place that says so."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mm_graft.files import read_small_text
from mm_graft.image_files import EXTENSIONS
from mm_graft.spelling import some_of

SYSTEM_FOLDERS = {'__MACOSX', '@eaDir', '$RECYCLE.BIN', 'System Volume Information', 'lost+found', '__pycache__'}
SPLITS = 'train', 'val', 'test'  # folders of a data set, in which those of its classes are
NAMED = 10  # endings that a message names


@dataclass(frozen=True)
class ImageList:
    """Images below a folder."""

    root: str
    names: list[str] = field(default_factory=list)  #: paths of the images below it, with ``/``; sorted, class by class
    labels: list[int] = field(default_factory=list)  #: a number for each image, empty without classes
    classes: tuple[str, ...] = ()  #: names of the classes; a class's place is its number
    empty: tuple[str, ...] = ()  #: folders beside those of the classes that hold no image, which are no classes
    missing: tuple[str, ...] = ()  #: classes that were asked for by name and have no image
    passed_over: Counter = field(default_factory=Counter)  #: (why, ending) → number of files and folders

    def __str__(self) -> str:
        """One line: what is used, what is passed over and why."""
        parts = [f'{self.root}: {len(self.names)} images' + (f' of {len(self.classes)} classes' if self.labels else '')]
        reasons = Counter()
        for (reason, _), count in self.passed_over.items():
            reasons[reason] += count
        if reasons:
            parts.append('passed over: ' + ', '.join(
                f'{count} {reason}{self._endings(reason)}' for reason, count in reasons.most_common()))
        if self.empty:
            parts.append(f'without an image, so no classes: {some_of(self.empty)}')
        if self.missing:
            parts.append(f'classes without an image here: {some_of(self.missing)}')
        return '; '.join(parts)

    def _endings(self, reason: str) -> str:
        endings = Counter({ending: count for (why, ending), count in sorted(self.passed_over.items()) if why == reason})
        shown = [f'{ending} {count}' for ending, count in endings.most_common(NAMED) if ending]
        return f' ({", ".join(shown)})' if shown else ''


def list_images(
    root: str | Path, labeled: bool = False, classes: Sequence[str] | None = None,
    extensions: Sequence[str] = EXTENSIONS,
) -> ImageList:
    """Look through a folder on disk, links followed, hidden files and folders left out.

    Args:
        root: the folder.
        labeled: the folders right below ``root`` are classes, numbered by sorted name, and hold images at any depth.
        classes: with ``labeled``: names of the classes in the order of their numbers; other folders are passed over.
        extensions: endings of images, in any case.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f'{root} is no folder; give the folder above the images')
    if classes is not None and len(set(classes)) < len(classes):
        raise ValueError(f'duplicate class in classes={list(classes)}')
    passed_over: Counter = Counter()
    endings = tuple({ending.lower() for ending in extensions})
    if not labeled:
        names = sorted(_walk(str(root), '', endings, passed_over, ()))
        return ImageList(str(root), names, passed_over=passed_over)
    folders = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if not entry.is_dir():
            passed_over[_why_not(entry, endings) or 'outside the folders of classes', _ending(entry.name)] += 1
        elif is_hidden(entry.name):
            passed_over['hidden', ''] += 1
        elif classes is not None and entry.name not in classes:
            passed_over['folders of other classes', ''] += 1
        else:
            folders[entry.name] = sorted(_walk(str(root), entry.name, endings, passed_over, (_identity(root), )))
    found = [name for name, images in folders.items() if images]
    if classes is None and SPLITS[0] in found and set(found) <= set(SPLITS):
        raise ValueError(f'{root} has the folders {", ".join(found)}, which are no classes; give one of them, such as '
                         f'{Path(root) / SPLITS[0]}')
    names = tuple(found if classes is None else classes)
    numbers = {name: number for number, name in enumerate(names)}
    return ImageList(
        str(root), [image for name in found for image in folders[name]],
        [numbers[name] for name in found for _ in folders[name]], names,
        tuple(name for name in folders if not folders[name] and classes is None),
        tuple(name for name in names if name not in found), passed_over)


def listed_images(path: str | Path) -> ImageList:
    """The images that a text file names, a path a line, below the folder of the file or absolute."""
    root = Path(path).parent
    try:
        names = read_small_text(path).splitlines()
    except ValueError as error:
        raise ValueError(f'{path} is neither a folder of images nor a text that names one a line ({error})') from error
    for number, name in enumerate(names, 1):
        if not (root / name).is_file():
            raise ValueError(f'line {number} of {path} names no file: {name!r}; give paths below {root}, or absolute '
                             'ones')
    return ImageList(str(root), names)


def labeled_list(path: str | Path) -> list[tuple[str, int]]:
    """The paths and class numbers in a text that gives both in each line, with a space between them."""
    rows = []
    for number, line in enumerate(read_small_text(path).splitlines(), 1):
        name, _, label = line.strip().rpartition(' ')
        if not name or not label.isdecimal():
            raise ValueError(f'line {number} of {path} is {line!r}; give the path of an image, a space and the number '
                             'of its class, from 0 on')
        rows.append((name, int(label)))
    if not rows:
        raise ValueError(f'{path} names no image')
    return rows


def is_hidden(name: str) -> bool:
    """Whether a file or folder is of no account: hidden (``.ipynb_checkpoints``, ``._photo.jpg``), or the system's."""
    return name.startswith('.') or name in SYSTEM_FOLDERS


def _walk(root: str, below: str, endings: tuple[str, ...], passed_over: Counter, above: tuple) -> Iterator[str]:
    """Images in ``root/below``, as paths below ``root``."""
    folder = os.path.join(root, below)
    try:
        here = _identity(folder)
        entries = list(os.scandir(folder))
    except OSError:
        passed_over['folders that cannot be read', ''] += 1
        return
    if here in above:
        passed_over['links to a folder above', ''] += 1
        return
    for entry in entries:
        name = f'{below}/{entry.name}' if below else entry.name
        if entry.is_dir() and not is_hidden(entry.name):
            yield from _walk(root, name, endings, passed_over, (*above, here))
        elif reason := _why_not(entry, endings):
            passed_over[reason, _ending(entry.name)] += 1
        else:
            yield name


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _why_not(entry: os.DirEntry, endings: tuple[str, ...]) -> str | None:
    if is_hidden(entry.name):
        return 'hidden'
    if not entry.name.lower().endswith(endings):
        return 'without the ending of an image format that is read'
    if not entry.is_file():
        return 'no regular files or broken links'
    return None


def _ending(name: str) -> str:
    return '' if is_hidden(name) else os.path.splitext(name)[1].lower()
