"""Finding the state dict among the dictionaries of a file."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from mm_graft.checkpoints.detection import MOMENTUM_WORD
from mm_graft.checkpoints.layouts import StateDict
from mm_graft.checkpoints.reading import CheckpointError, read_content
from mm_graft.checkpoints.unpickler import Inert
from mm_graft.checkpoints.wrappers import unwrapped
from mm_graft.files import parse_json

CONTAINERS = (
    'state_dict', 'model', 'module', 'model_state_dict', 'student', 'encoder', 'backbone', 'network', 'weights')
PROVENANCE = 'provenance'
AVERAGES = ('state_dict_ema', 'model_ema', 'ema', 'teacher', 'target_encoder', 'momentum_encoder')


@dataclass
class CheckpointFile:
    """The content of a file."""

    path: str | Path
    tensors: StateDict  #: of the state dict, by name
    content: object  #: all of the file
    rest: dict[str, str] = field(default_factory=dict)  #: other entries: name → what it is
    container: str = ''  #: key of the state dict; empty at the top level
    is_average: bool = False  #: whether it is a moving average


def read_file(path: str | Path, container: str | None = None, branch: str = 'base') -> CheckpointFile:
    """The tensors of a file, and the other entries; see :func:`mm_graft.checkpoints.reading.read_content`.

    Args:
        path: the file.
        container: key of the state dict, ``a.b`` for one inside another, empty for the top level; found if None.
        branch: ``'momentum'`` prefers the averaged weights that timm, DINO and I-JEPA keep beside the others. In files
            of MMEngine's ``EMAHook`` the one state dict is the average already.

    Raises:
        CheckpointError: no such file, damaged, not safe to open, or without tensors.
    """
    content = read_content(path)
    name = choose(path, content, branch) if container is None else container
    inside = content
    for key in filter(None, name.split('.')):
        if not isinstance(inside, dict) or key not in inside:
            raise CheckpointError(f'checkpoint {path} has no {name!r}; {describe(content)}')
        inside = inside[key]
    if not holds_tensors(inside):
        raise CheckpointError(f'checkpoint {path} holds no tensors under {name!r}; {describe(content)}')
    tensors = {key: value for key, value in inside.items() if isinstance(key, str) and isinstance(value, Tensor)}
    rest = {str(key): f'a {kind(value)}, no tensor' for key, value in inside.items() if key not in tensors}
    if name:
        rest |= {str(key): beside(content, key) for key in content if key != name.split('.')[0]}
    plain = unwrapped(tensors)
    return CheckpointFile(path, {plain[key]: value for key, value in tensors.items()}, content, rest, name,
                          is_average(name) or (branch == 'momentum' and swaps_average(content)))


def choose(path: str | Path, content: object, branch: str) -> str:
    """Key of the state dict, ``a.b`` for one inside another; empty where the file is one."""
    found = places(content)
    averages = [place for place in found if is_average(place)]
    if branch == 'momentum' and averages and not swaps_average(content):
        return averages[0]
    if found:
        return found[0]
    if holds_tensors(content):
        return ''
    raise CheckpointError(f'checkpoint {path} holds no tensors under {CONTAINERS} or at its top level; '
                          f'{describe(content)}; {remedy(content)}')


def places(content: object) -> list[str]:
    """Where state dicts are, also one level deeper: trained weights first, then averages."""
    if not isinstance(content, dict):
        return []
    others = [key for key in content if isinstance(key, str) and key not in AVERAGES and is_average(key)]
    averages = [*AVERAGES, *others]
    keys = [key for key in (*CONTAINERS, *averages) if isinstance(content.get(key), dict)]
    return [key for key in keys if holds_tensors(content[key])] or [
        f'{key}.{inner}' for key in keys for inner in (*CONTAINERS, *averages)
        if holds_tensors(content[key].get(inner))]


def is_average(place: str) -> bool:
    """Whether a key of a file, or one inside another, is that of averaged weights."""
    return any(MOMENTUM_WORD.search(key) for key in place.split('.'))


def swaps_average(content: object) -> bool:
    """Whether MMEngine's ``EMAHook`` wrote it: ``state_dict`` is the average, the trained weights are beside it."""
    return isinstance(content, dict) and {'state_dict', 'ema_state_dict', 'message_hub'} <= content.keys()


def holds_tensors(value: object) -> bool:
    """Whether a value is a state dict."""
    return isinstance(value, dict) and any(isinstance(part, Tensor) for part in value.values())


def beside(content: dict, key: object) -> str:
    """Description of an entry beside the state dict."""
    if key == 'ema_state_dict' and swaps_average(content):
        return 'weights without average, whose average by EMAHook is state_dict'
    if isinstance(key, str) and is_average(key) and holds_tensors(content[key]):
        return "averaged weights, which branch='momentum' takes"
    return 'beside the state dict'


def kind(value: object) -> str:
    """The class of a value, for a message."""
    return value.name if isinstance(value, Inert) else type(value).__name__


def describe(content: object) -> str:
    """Description of a file without tensors, for a message."""
    if not isinstance(content, dict):
        return f'it holds a {kind(content)}'
    keys = [f'{key} (a {kind(value)})' for key, value in list(content.items())[:8]]
    return f'its keys are {", ".join(keys)}' + (' …' if len(content) > 8 else '') if keys else 'it is empty'


def remedy(content: object) -> str:
    """What to do with a file without tensors."""
    values = list(content.values()) if isinstance(content, dict) else [content]
    if any(isinstance(value, Inert) and '_parameters' in value.fields for value in values):
        return 'it is a pickled model: open it where it was written, and save its state_dict()'
    if any(isinstance(value, np.ndarray) for value in values):
        return 'its weights are arrays: save them as tensors, by torch.from_numpy'
    if isinstance(content, dict):
        return 'name the one that is the state dict by container'
    return 'save a state dict'


def read_checkpoint(path: str | Path, container: str | None = None) -> StateDict:
    """The tensors of a checkpoint by name, on the CPU; see :func:`read_file`."""
    return read_file(path, container).tensors


def provenance_of(content: object) -> dict | None:
    """The provenance that a conversion of this package recorded in a file."""
    record = getattr(content, 'metadata', {}).get(PROVENANCE) or getattr(content, PROVENANCE, None)
    if isinstance(content, dict):
        record = content.get(PROVENANCE) or record
    if isinstance(record, str):
        record = parse_json(record)
    return record if isinstance(record, dict) else None
