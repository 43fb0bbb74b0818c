"""A bound on what is built by the settings in a file: they must not ask for much more than the file can fill."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mm_graft.checkpoints.reading import CheckpointError, parts_of
from mm_graft.nested import leaves

RECORD = 64  # bytes that a tensor takes at least in any format
LARGEST = 2**20  # setting of a model: a depth makes lists before it makes parameters
NUMBERS, PARAMETERS = 2**26, 2**12  # of a model beside a file of any size: what starts fresh, larger position tables


@contextmanager
def bounded_by(path: str | Path, settings: Mapping) -> Iterator[None]:
    """While open, the model built by ``settings`` is one that the checkpoint could fill, whoever says its sizes.

    A parameter is counted when it is registered, which is before its memory is written to.

    Raises:
        CheckpointError: a setting is beyond any size, or the model has more numbers than the file has bytes, or more
            parameters than the file has room for.
    """
    parts = [Path(part) for part in parts_of(path)]
    if not all(part.is_file() for part in parts):
        yield  # whoever reads it will say so
        return
    for key, value in leaves(settings):
        if isinstance(value, int) and abs(value) > LARGEST:
            raise CheckpointError(f'checkpoint {path}: its config builds a model of {key}={value:,}, and no size may '
                                  f'be over {LARGEST:,}; give the config that it was trained with')
    size = sum(part.stat().st_size for part in parts)
    left = {'numbers': size + NUMBERS, 'parameters': size // RECORD + PARAMETERS}

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        left['numbers'] -= parameter.numel() if parameter is not None else 0
        left['parameters'] -= 1
        if min(left.values()) < 0:
            raise CheckpointError(f'checkpoint {path} has {size:,} bytes, and its config builds a model of more than '
                                  f'{size + NUMBERS:,} numbers or {size // RECORD + PARAMETERS:,} parameters; give the '
                                  'config that it was trained with')

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if 'allocate' not in str(error):
            raise
        raise CheckpointError(f'checkpoint {path} has {size:,} bytes, and its config builds a model for which there is '
                              f'no memory ({error}); give the config that it was trained with') from error
    finally:
        handle.remove()
