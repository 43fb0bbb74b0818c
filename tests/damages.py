"""Random damages of a checkpoint, and whether any of them is taken for the checkpoint that was written."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import save_checkpoint

from mm_graft.checkpoints import read_content
from mm_graft.checkpoints.intact import ATOMIC, corruption_reason

DAMAGES = ('bit flipped', 'cut', 'blocks swapped', 'block zeroed')
BLOCK = 64


def small_checkpoint(path: Path) -> Path:
    """A checkpoint as a run writes it, in which the records of the archive weigh as much as the tensors."""
    model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(6)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    hub = {'log_scalars': {'loss': HistoryBuffer([1., 2.], [1, 1])}}
    state = {'meta': {'iter': 7, 'epoch': 1, 'cfg': 'max_epochs = 2'}, 'state_dict': model.state_dict(),
             'optimizer': optimizer.state_dict(), 'message_hub': hub}
    save_checkpoint(state, str(path), backend_args=dict(backend=ATOMIC))
    return path


def damage(content: bytes, kind: str, rng: random.Random) -> bytes:
    """One damage that changes the file."""
    result = bytearray(content)
    while result == content:
        one, other = (rng.randrange(len(content) - BLOCK) for _ in range(2))
        if kind == 'bit flipped':
            result[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif kind == 'cut':
            del result[rng.randrange(len(content)):]
        elif kind == 'block zeroed':
            result[one:one + BLOCK] = bytes(BLOCK)
        elif abs(one - other) >= BLOCK:
            result[one:one + BLOCK] = content[other:other + BLOCK]
            result[other:other + BLOCK] = content[one:one + BLOCK]
    return bytes(result)


def same(one: object, other: object) -> bool:
    """Whether two contents are equal to the last bit."""
    if isinstance(one, HistoryBuffer):
        one, other = vars(one), vars(other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def fuzz(folder: Path, rounds: int, seed: int = 0) -> Counter:
    """Numbers of (kind of damage, what became of it): ``refused``, ``harmless`` (to the content) or ``WRONG``."""
    whole = small_checkpoint(folder / 'whole.pth')
    content, expected, rng, counts = whole.read_bytes(), read_content(whole), random.Random(seed), Counter()
    victim = folder / 'victim.pth'
    for index in range(rounds):
        kind = DAMAGES[index % len(DAMAGES)]
        victim.write_bytes(damage(content, kind, rng))
        if corruption_reason(victim):
            counts[kind, 'refused'] += 1
        else:
            counts[kind, 'harmless' if same(read_content(victim), expected) else 'WRONG'] += 1
    return counts
