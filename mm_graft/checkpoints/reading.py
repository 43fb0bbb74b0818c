"""Read checkpoint files without running code from them."""

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor

from mm_graft.checkpoints.layouts import StateDict

CONTAINERS = ('state_dict', 'model', 'module')


class _Ignored:
    """Stands in for what a Runner's checkpoint holds beside tensors (logged values); takes anything, does nothing."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# The logged values of a Runner pickle bound methods and numpy scalars. Opening them as they are would allow `getattr`
# to a stranger's file, so each of these names is read as the inert class above.
RUNNER_GLOBALS = [(_Ignored, name) for name in (
    'builtins.getattr', 'mmengine.logging.history_buffer.HistoryBuffer', 'numpy.dtype', 'numpy.ndarray',
    'numpy._core.multiarray._reconstruct', 'numpy._core.multiarray.scalar', 'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar')]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, what is wrong, and what to do."""


def read_checkpoint(path: str | Path) -> StateDict:
    """The tensors of a ``.pth``, ``.pt``, ``.tar`` or ``.safetensors`` file, by name, on the CPU.

    Pickles are opened with ``weights_only=True``: nothing in the file is executed. Containers (``state_dict``,
    ``model``, ``module``) are opened.

    Raises:
        CheckpointError: no such file, damaged, not safe to open, or without tensors.
    """
    return read_parts(path)[0]


def read_parts(path: str | Path) -> tuple[StateDict, dict[str, str]]:
    """As :func:`read_checkpoint`, with what else stands in the file: name → what it is.

    Raises:
        CheckpointError: no such file, damaged, not safe to open, or without tensors.
    """
    content = read_content(path)
    rest: dict[str, str] = {}
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            rest = {str(name): 'beside the state dict' for name in content if name != container}
            content = content[container]
            break
    if not isinstance(content, dict):
        raise CheckpointError(f'checkpoint {path} holds a {type(content).__name__}, not a state dict')
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(f'checkpoint {path} holds no tensors under {CONTAINERS} or at its top level')
    rest.update({str(name): f'a {type(value).__name__}, no tensor' for name, value in content.items()
                 if name not in tensors})
    return tensors, rest


def read_content(path: str | Path) -> object:
    """What a file holds: the tensors of a ``.safetensors``, whatever was pickled of others; no code is run.

    Raises:
        CheckpointError: no such file, damaged, or not safe to open.
    """
    path = _existing(path)
    return _read_safetensors(path) if path.suffix == '.safetensors' else _read_pickle(path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts in the header of a ``.safetensors`` file.

    Raises:
        CheckpointError: no such file, or damaged.
    """
    from safetensors import safe_open
    path = _existing(path)
    try:
        with safe_open(path, 'pt') as file:
            return file.metadata() or {}
    except Exception as error:  # as above
        raise CheckpointError(f'checkpoint {path} is damaged or no safetensors file: {_first_line(error)}') from error


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'checkpoint {path} does not exist; give the path of a file')
    return path


def _read_pickle(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(RUNNER_GLOBALS):
            return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r'GLOBAL ([\w.]+)|but got (.+)', str(error))
        if refused is None:
            raise CheckpointError(f'checkpoint {path} is damaged or no PyTorch file') from error
        raise CheckpointError(
            f'checkpoint {path} needs {refused.group(1) or refused.group(2)} to open, which could run code; if you '
            'trust its source, load it once with torch.load(weights_only=False), save its state dict alone, and use '
            'that file') from error
    except Exception as error:  # a damaged file can fail anywhere in the reader (struct, zipfile, memory, unicode, …)
        raise CheckpointError(f'checkpoint {path} is damaged or no PyTorch file: {_first_line(error)}') from error


def _read_safetensors(path: Path) -> StateDict:
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except Exception as error:  # as above
        raise CheckpointError(f'checkpoint {path} is damaged or no safetensors file: {_first_line(error)}') from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
