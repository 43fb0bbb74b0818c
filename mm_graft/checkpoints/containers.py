"""Finding the state dict among the dictionaries of a file."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mm_graft.checkpoints.layouts import StateDict
from mm_graft.checkpoints.reading import CheckpointError, read_content
from mm_graft.checkpoints.unpickler import Inert
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
        branch: ``'momentum'`` prefers the averaged weights that timm, DINO and I-JEPA keep beside the others.

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
    return CheckpointFile(path, tensors, content, rest, name, name.split('.')[-1] in AVERAGES)


def choose(path: str | Path, content: object, branch: str) -> str:
    """Key of the state dict; empty where the file is one."""
    found = [key for key in (*CONTAINERS, *AVERAGES) if isinstance(content, dict) and holds_tensors(content.get(key))]
    averages = [key for key in found if key in AVERAGES]
    if branch == 'momentum' and averages:
        return averages[0]
    if found:
        return found[0]
    if holds_tensors(content):
        return ''
    raise CheckpointError(f'checkpoint {path} holds no tensors under {CONTAINERS} or at its top level; '
                          f'{describe(content)}' + ('; name the one that is the state dict by container'
                                                    if isinstance(content, dict) else ''))


def holds_tensors(value: object) -> bool:
    """Whether a value is a state dict."""
    return isinstance(value, dict) and any(isinstance(part, Tensor) for part in value.values())


def beside(content: dict, key: object) -> str:
    """Description of an entry beside the state dict."""
    return "averaged weights, which branch='momentum' takes" \
        if key in AVERAGES and holds_tensors(content[key]) else 'beside the state dict'


def kind(value: object) -> str:
    """The class of a value, for a message."""
    return value.name if isinstance(value, Inert) else type(value).__name__


def describe(content: object) -> str:
    """Description of a file without tensors, for a message."""
    if not isinstance(content, dict):
        return f'it holds a {kind(content)}'
    keys = [f'{key} (a {kind(value)})' for key, value in list(content.items())[:8]]
    return f'its keys are {", ".join(keys)}' + (' …' if len(content) > 8 else '') if keys else 'it is empty'


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
