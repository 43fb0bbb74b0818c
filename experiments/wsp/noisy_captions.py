"""Captions with noisy hashtags for a labeled data set: the shape of a crawl, small enough to try everything on.

An image's caption has one tag of its class, which is wrong with probability ``noise``, and up to two tags of context
that say nothing about the class, some frequent, most rare, half of them in no label set.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

# ten classes in the order of their numbers; every lemma is a tag that people would write
FASHION_SYNSETS = (
    'tshirt.n: T-shirt, tee', 'trouser.n: trousers, pants', 'pullover.n: pullover, sweater', 'dress.n: dress, gown',
    'coat.n: coat, overcoat', 'sandal.n: sandal, flip-flop', 'shirt.n: shirt, blouse', 'sneaker.n: sneaker, trainer',
    'bag.n: bag, handbag', 'ankle_boot.n: ankle boot, bootie')
CONTEXT = ('summer', 'beach', 'city', 'winter', 'party', 'travel', 'music', 'food', 'nature', 'art')
MEANINGLESS = (
    'love', 'instagood', 'ootd', 'photooftheday', 'follow', 'tbt', 'likeforlike', 'happy', 'cute', 'nofilter')


def synset_lines() -> list[str]:
    """Lines of a synset file: the classes first, then the context."""
    classes = [line.replace(':', '', 1) for line in FASHION_SYNSETS]
    return classes + [f'{word}.n {word}' for word in CONTEXT]


def noisy_caption(label: int, noise: float, generator: np.random.Generator) -> str:
    """A caption for an image of a class; with probability ``noise`` its tag is of another class, all alike likely."""
    count = len(FASHION_SYNSETS)
    if generator.random() < noise:
        label = (label + int(generator.integers(1, count))) % count
    lemmas = FASHION_SYNSETS[label].split(': ')[1].split(', ')
    words = (*CONTEXT, *MEANINGLESS)
    share = 1 / np.arange(1, len(words) + 1)  # Zipf: few frequent, many rare
    order = np.arange(len(words)).reshape(2, -1).T.reshape(-1)  # context and meaningless in turn
    chosen = generator.choice(order, size=generator.integers(0, 3), replace=False, p=share / share.sum())
    tags = [str(generator.choice(lemmas)), *(words[index] for index in chosen)]
    return ' '.join(f'#{tag.replace(" ", "").replace("-", "")}' for tag in generator.permutation(tags))


def write_noisy_captions(
    images: np.ndarray, labels: Sequence[int], folder: str | Path, noise: float, seed: int,
) -> Path:
    """Write images (N, H, W) of uint8, ``captions.jsonl`` and ``synsets.txt`` into a folder, and return it.

    Raises:
        ValueError: ``noise`` outside [0, 1).
    """
    if not 0 <= noise < 1:
        raise ValueError(f'noise={noise} is the share of wrong class tags; choose one in [0, 1)')
    folder = Path(folder)
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    rows = []
    for number, (image, label) in enumerate(zip(images, labels)):
        name = f'images/{number:05d}.png'
        cv2.imwrite(str(folder / name), image)
        rows.append(json.dumps({'image': name, 'caption': noisy_caption(int(label), noise, generator)}))
    (folder / 'captions.jsonl').write_text('\n'.join(rows) + '\n')
    (folder / 'synsets.txt').write_text('\n'.join(synset_lines()) + '\n')
    return folder
