"""CIFAR-10's binary version (cifar-10-binary.tar.gz) → a folder of PNG files for each class.

The archive is at https://www.cs.toronto.edu/~kriz/cifar.html. A record is a label byte, then 32×32 red, green, blue.
"""

import argparse
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.cifar10.sizes import IMAGES
from mm_graft.commands.running import guarded
from mm_graft.evaluation.splits import make_split

RECORD = 1 + 3 * 32 * 32
CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def read_records(archive: Path) -> dict[str, np.ndarray]:
    """Records (N, 3073) of the ``train`` and the ``test`` set, in the order of the archive's files."""
    parts: dict[str, list[np.ndarray]] = {'train': [], 'test': []}
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            if member.name.endswith('.bin'):
                records = np.frombuffer(tar.extractfile(member).read(), np.uint8).reshape(-1, RECORD)
                parts['test' if 'test_batch' in member.name else 'train'].append(records)
    if not parts['train'] or not parts['test']:
        raise ValueError(f'{archive} holds no data_batch_*.bin and test_batch.bin; give cifar-10-binary.tar.gz')
    return {name: np.concatenate(records) for name, records in parts.items()}


def write_images(records: np.ndarray, folder: Path) -> None:
    """One PNG a record, numbered within its class."""
    numbers = dict.fromkeys(CLASSES, 0)
    for record in records:
        name = CLASSES[record[0]]
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / name / f'{numbers[name]:04d}.png')
        numbers[name] += 1


def write_lists(root: Path) -> None:
    """Write the lists of size ``cpu``: 500 images of each class, or as many as the smallest class has."""
    for name in ('train', 'test'):
        path = root / 'meta' / f'{name}_{IMAGES["cpu"]}.txt'
        if not path.is_file():
            smallest = min(sum(1 for _ in folder.iterdir()) for folder in (root / name).iterdir() if folder.is_dir())
            make_split(root / name, path, per_class=min(IMAGES['cpu'] // 10, smallest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('archive', type=Path, help='cifar-10-binary.tar.gz')
    parser.add_argument('--out', type=Path, default=Path('data/cifar10'), help='folder (default: %(default)s)')
    args = parser.parse_args()
    with guarded():
        try:
            sets = read_records(args.archive)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f'{args.archive} is not a complete tar archive ({error}); give '
                             'cifar-10-binary.tar.gz') from error
        for name, records in sets.items():
            write_images(records, args.out / name)
            print(f'{args.out / name}: {len(records)} images')
        write_lists(args.out)


if __name__ == '__main__':
    main()
