"""While a command or a run is active, whatever opens a pickle or YAML opens it with this package's reader.

``torch.load(weights_only=True)`` does not suffice: MMEngine puts ``getattr`` on PyTorch's allow-list, through which a
file reaches any function (docs/allow_list.md), falls back to an unrestricted load where the environment does not
forbid it, and executes the text of a config that a checkpoint of MMCV's may hold.
"""

import io
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import BinaryIO

import torch
import yaml
from mmengine.logging import print_log

from mm_graft.checkpoints.reading import CheckpointError, meta_of, read_content, read_pickle


def load(f: str | Path | BinaryIO, map_location: object = None, *args: object, **kwargs: object) -> object:
    """``torch.load`` by :func:`mm_graft.checkpoints.reading.read_content`.

    ``map_location`` is a device or None; of a function or a dictionary the tensors are on the CPU, from where every
    loader copies them.
    """
    content = read_content(f, device_of=_devices(map_location))
    if 'config' in meta_of(content):  # MMEngine executes it when it resumes, to compare numbers of GPUs
        del content['meta']['config']
        print_log(f'the config text in {f} (meta.config) is not executed', logger='current')
    return content


def _devices(map_location: object) -> Callable[[str], torch.device | None] | None:
    """Device in a file → the requested one; None is the CPU."""
    if isinstance(map_location, str | torch.device | int):
        device = torch.device(map_location)
        return None if device.type == 'cpu' else lambda _: device
    if map_location is None and torch.cuda.is_available():
        return lambda location: torch.device(location) if location.startswith('cuda') else None
    return None


SAFE_PICKLE = {'pickle': SimpleNamespace(**{
    **vars(pickle), 'load': lambda file, **_: read_pickle(file),
    'loads': lambda content, **_: read_pickle(io.BytesIO(content))})}


class PlainYAML(yaml.SafeLoader):
    """YAML as data: with Python's tuples, which the host writes, and without its objects and calls."""

    def construct_undefined(self, node: yaml.Node) -> None:
        """Refuse to open."""
        raise CheckpointError(f'a YAML file would run code when opened: {node.tag} in line {node.start_mark.line + 1}; '
                              'write it without such tags, or as JSON')


PlainYAML.add_constructor('tag:yaml.org,2002:python/tuple', yaml.FullLoader.construct_python_tuple)
PlainYAML.add_constructor(None, PlainYAML.construct_undefined)
# modules of the hosts that read users' files by themselves: annotations, CIFAR, arrays of segmentation, names of tags
READERS = {
    'mmengine.fileio.handlers.pickle_handler': SAFE_PICKLE, 'mmpretrain.datasets.cifar': SAFE_PICKLE,
    'mmseg.utils.io': SAFE_PICKLE, 'mmpretrain.models.multimodal.ram.ram': SAFE_PICKLE,
    'mmengine.fileio.handlers.yaml_handler': {'Loader': PlainYAML}}


@wraps(torch.storage._load_from_bytes)  # pickle finds it by its name
def _load_sent_storage(content: bytes, torch_load: Callable = torch.load) -> object:
    """A storage in what processes of a run send each other, read as PyTorch does; in no file this is reached."""
    return torch_load(io.BytesIO(content), weights_only=False)


class _ReaderImports(MetaPathFinder):
    """Replaces the hosts' readers as they are imported."""

    def __init__(self, protect: Callable[[ModuleType], None]) -> None:
        self.protect = protect

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """The module as it would be found otherwise, which is protected after it has run."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in READERS else None
        if spec is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), self.protect(module))
        return spec


_blocks: list[None] = []  # one for each that is open
_undo = ExitStack()


@contextmanager
def safe_opening() -> Iterator[None]:
    """Replace ``torch.load`` and the hosts' readers of pickles and YAML, so that no file can run code.

    Blocks may be nested and overlap, as those of two runs do of which the first has failed: what was replaced comes
    back when the last one ends.
    """
    if not _blocks:
        _replace(_undo)
    _blocks.append(None)
    try:
        yield
    finally:
        _blocks.pop()
        if not _blocks:
            _undo.close()


def _replace(undo: ExitStack) -> None:
    def protect(module: ModuleType) -> None:
        for name, reader in READERS[module.__name__].items():
            undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, reader)

    undo.callback(setattr, torch, 'load', torch.load)
    undo.callback(setattr, torch.storage, '_load_from_bytes', torch.storage._load_from_bytes)
    torch.storage._load_from_bytes = _load_sent_storage
    torch.load = load
    for name in READERS:
        if name in sys.modules:
            protect(sys.modules[name])
    finder = _ReaderImports(protect)
    sys.meta_path.insert(0, finder)
    undo.callback(sys.meta_path.remove, finder)
