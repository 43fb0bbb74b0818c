"""Fashion-MNIST on disk: from Debian's package if there is one, else from the data set's own server."""

import gzip
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from mmengine.logging import print_log
from mmpretrain.datasets import FashionMNIST

from mm_graft.files import atomic_write

PACKAGE = 'dataset-fashion-mnist'
INSTALLED = Path('/usr/share/datasets/fashion-mnist')
# of the unpacked files; the packed ones of Debian are not those of the data set's server
MD5 = {
    'train-images-idx3-ubyte': 'f4a8712d7a061bf5bd6d2ca38dc4d50a',
    'train-labels-idx1-ubyte': '9018921c3c673c538a1fc5bad174d6f9',
    't10k-images-idx3-ubyte': '8181f5470baa50b63fa0f6fddb340f0a',
    't10k-labels-idx1-ubyte': '15d484375f8d13e6eb1aabb0c3f46965',
}


def prepare_fashion_mnist(root: str | Path) -> Path:
    """Put the four files of Fashion-MNIST, unpacked, into ``root``, and return it; nothing is done twice.

    Looked for in this order: ``root`` itself, the installed Debian package ``dataset-fashion-mnist``, that package
    fetched by apt and unpacked without installing it, and mmpretrain's download.

    Raises:
        RuntimeError: none of these works.
    """
    root = Path(root)
    if all((root / name).is_file() for name in MD5):
        return root
    root.mkdir(parents=True, exist_ok=True)
    if INSTALLED.is_dir():
        unpack(INSTALLED, root, MD5)
    else:
        with tempfile.TemporaryDirectory() as folder:
            if fetch_package(Path(folder)):
                unpack(Path(folder) / INSTALLED.relative_to('/'), root, MD5)
            else:
                download(root)
    return root


def unpack(source: Path, root: Path, md5: dict[str, str]) -> None:
    """Unpack the gzipped files of ``source`` into ``root``, each whole and right or not at all.

    Raises:
        RuntimeError: an unpacked file has another checksum than ``md5`` says.
    """
    for name, expected in md5.items():
        packed = source / f'{name}.gz'
        with atomic_write(root / name) as part:
            with gzip.open(packed) as reader, part.open('wb') as writer:
                shutil.copyfileobj(reader, writer)
            if hashlib.md5(part.read_bytes()).hexdigest() != expected:
                raise RuntimeError(f'{packed} does not hold the {name} of Fashion-MNIST (md5 {expected}); '
                                   'delete it and try again')


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
