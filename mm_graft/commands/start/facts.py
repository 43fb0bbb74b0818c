"""What `mm_graft start` looks at before it plans: the folder's images and this machine."""

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from mm_graft.channel_files import CHANNEL_EXTENSIONS, stored_channels, to_byte_range
from mm_graft.commands.run_defaults import usable_cores
from mm_graft.commands.start.plan import Channels, Folder, Machine
from mm_graft.image_files import BadImageError, read_header, read_image_bytes
from mm_graft.image_folders import ImageList, list_images, listed_images
from mm_graft.precision import has_bfloat16

SAMPLE = 60  # images whose headers are read
DEEP = ('.npy', '.tif', '.tiff')  # endings whose files are looked into for channels
MATRIX = {'cpu': 384, 'cuda': 768}  # side of the matrices whose product is timed; small enough not to be interrupted


def look_at_folder(root: str | Path) -> tuple[Folder, ImageList, list[str]]:
    """What is in a folder, or in a list of images: numbers for the plan, the list of images, and lines to print."""
    if Path(root).is_file():
        images = listed_images(root)
    else:
        images, arrays = list_images(root), list_images(root, extensions=('.npy', ))
        images = arrays if len(arrays.names) > len(images.names) else images
    sample = images.names[::max(1, len(images.names) // SAMPLE)]
    sides, channels, formats, bad = [], Counter(), Counter(), []
    for name in sample:
        try:
            content = read_image_bytes(os.path.join(images.root, name))
            if name.lower().endswith('.npy'):
                sides.append(min(stored_channels(content).shape[:2]))
                formats['arrays'] += 1
                continue
            header = read_header(content)
        except (BadImageError, OSError) as error:
            bad.append(f'{name}: {error}')
            continue
        sides.append(min(header.size))
        channels[(3 if header.color else 1) + header.alpha] += 1
        formats['more than 8 bits' if header.deep else '8 bits'] += 1
    if not sides:
        why = f'; the first: {bad[0]}' if bad else ''
        raise ValueError(f'no readable image in {images}{why}; give the folder above the images')
    median = sorted(sides)[len(sides) // 2]
    share = len(sides) / len(sample)
    found = look_at_channels([os.path.join(images.root, name) for name in sample])
    folder = Folder(int(len(images.names) * share), median, found)
    lines = [str(images), f'{len(sides)} sampled: shorter side {min(sides)} to {max(sides)} pixels (median {median}), '
             + ', '.join([f'{count} with {number} channel{"s" * (number > 1)}' for number, count in channels.items()]
                         + [f'{count} of {kind}' for kind, count in formats.items()])]
    if found:
        lines.append(f'{len(found.mean)} channels at their full depth: means '
                     + ', '.join(f'{value:.3g}' for value in found.mean) + ' of 255')
    if bad:
        lines.append(f'{len(bad)} of {len(sample)} sampled cannot be read and will be passed over: {bad[0]}'
                     + (' …' if len(bad) > 1 else ''))
    return folder, images, lines


def look_at_channels(paths: list[str]) -> Channels | None:
    """How the channels are to be read, if the files are all arrays, TIFFs or deep, and alike; None for photographs."""
    images = []
    for path in paths:
        try:
            content = read_image_bytes(path)
            if not path.lower().endswith(DEEP) and not read_header(content).deep:
                return None
            images.append(stored_channels(content))
        except (BadImageError, OSError):
            continue
    counts = {image.shape[2] for image in images}
    if len(counts) != 1 or (counts <= {1, 3, 4} and all(image.dtype == np.uint8 for image in images)):
        return None
    ends = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
    natural = all(image.dtype in (np.uint8, np.uint16) for image in images) or (
        images[0].dtype.kind == 'f' and ends[0] >= 0 and ends[1] <= 1)
    value_range = None if natural or ends[0] == ends[1] else ends
    values = np.concatenate([to_byte_range(image, value_range).reshape(-1, image.shape[2]) for image in images])
    mean, std = values.mean(0).tolist(), values.std(0).tolist()
    return Channels(tuple(mean), tuple(value or 1.0 for value in std), value_range, CHANNEL_EXTENSIONS)


def look_at_machine(device: str | None = None) -> Machine:
    """Devices, cores, memory, and how fast matrices are multiplied here (some tenths of a second are measured)."""
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    native = has_bfloat16(device)
    return Machine(device, usable_cores(), memory_of(device), matrix_rate(device, native), native)


def memory_of(device: str) -> float:
    """GiB that the device has, or that are free on this machine."""
    if device == 'cuda':
        return torch.cuda.get_device_properties(0).total_memory / 2 ** 30
    pages = os.sysconf('SC_AVPHYS_PAGES') if 'SC_AVPHYS_PAGES' in os.sysconf_names else 0
    return max(1.0, pages * os.sysconf('SC_PAGE_SIZE') / 2 ** 30) if pages else 4.0


def matrix_rate(device: str, bfloat16: bool, seconds: float = 0.3) -> float:
    """Floating-point operations a second in the fastest of many products of two square matrices.

    The fastest is the one that nothing else on the machine interrupted, so that a busy moment does not shorten a plan.
    """
    side = MATRIX[device]
    matrix = torch.ones(side, side, device=device, dtype=torch.bfloat16 if bfloat16 else torch.float32)
    matrix @ matrix  # the first one warms up
    fastest, end = float('inf'), time.perf_counter() + seconds
    while fastest == float('inf') or time.perf_counter() < end:
        start = time.perf_counter()
        matrix @ matrix
        if device == 'cuda':
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * side ** 3 / fastest


def busy(cores: int) -> str | None:
    """What slows a training down, if other programs compute here; None while they leave a core free."""
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else 0.0
    return f'other programs are running here (load {load:.0f} on {cores} cores), so it takes longer' \
        if load >= cores else None
