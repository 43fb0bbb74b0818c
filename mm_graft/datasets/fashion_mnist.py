"""Fashion-MNIST on disk, from Debian's package where there is one, else from the data set's own server."""

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from mmengine.logging import print_log
from mmpretrain.datasets import FashionMNIST

PACKAGE = 'dataset-fashion-mnist'
INSTALLED = Path('/usr/share/datasets/fashion-mnist')


def prepare_fashion_mnist(root: str | Path) -> Path:
    """Put the four files of Fashion-MNIST, unpacked, into ``root``, and return it; nothing is done twice.

    Looked for in this order: ``root`` itself, the installed Debian package ``dataset-fashion-mnist``, that package
    fetched by apt and unpacked without installing it, and mmpretrain's download.

    Raises:
        RuntimeError: none of these works.
    """
    root = Path(root)
    files = dict(FashionMNIST.train_list + FashionMNIST.test_list)
    if all((root / Path(name).stem).is_file() for name in files):
        return root
    root.mkdir(parents=True, exist_ok=True)
    if INSTALLED.is_dir():
        unpack(INSTALLED, root, files)
    else:
        with tempfile.TemporaryDirectory() as folder:
            if fetch_package(Path(folder)):
                unpack(Path(folder) / INSTALLED.relative_to('/'), root, files)
            else:
                download(root)
    return root


def unpack(source: Path, root: Path, md5: dict[str, str]) -> None:
    """Check the packed files of ``source`` and unpack them into ``root``, each whole or not at all.

    Raises:
        RuntimeError: a file has another checksum.
    """
    for name, expected in md5.items():
        packed = source / name
        if hashlib.md5(packed.read_bytes()).hexdigest() != expected:
            raise RuntimeError(f'{packed} has not the checksum {expected} of Fashion-MNIST; delete it and try again')
        target = root / packed.stem
        part = target.with_suffix('.part')
        with gzip.open(packed) as reader, part.open('wb') as writer:
            shutil.copyfileobj(reader, writer)
        part.replace(target)


def fetch_package(folder: Path) -> bool:
    """Fetch Debian's package by apt and unpack it below ``folder``; needs no root if apt knows the package."""
    if not (shutil.which('apt-get') and shutil.which('dpkg-deb')):
        return False
    fetched = _run(['apt-get', 'download', '-qq', PACKAGE], folder)
    if not fetched and _run(['apt-get', 'update', '-qq'], folder):  # a new machine has no lists; updating needs root
        fetched = _run(['apt-get', 'download', '-qq', PACKAGE], folder)
    archives = list(folder.glob(f'{PACKAGE}_*.deb'))
    return fetched and bool(archives) and _run(['dpkg-deb', '-x', str(archives[0]), '.'], folder)


def _run(command: list[str], folder: Path) -> bool:
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def download(root: Path) -> None:
    """Fetch the files as mmpretrain does.

    Raises:
        RuntimeError: the server cannot be reached.
    """
    print_log(f'downloading Fashion-MNIST into {root}', logger='current')
    try:
        FashionMNIST(data_root=str(root), download=True)
    except OSError as error:
        raise RuntimeError(
            f'Fashion-MNIST could not be fetched ({error}); put its four idx files, unpacked, into {root}, or '
            f'run: sudo apt-get install {PACKAGE}') from error
