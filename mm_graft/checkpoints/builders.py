"""What calls in a pickle become: containers, NumPy's arrays, the host's logs; each from checked arguments.

Tensors: :mod:`mm_graft.checkpoints.torch_files`.
"""

import math
import pickle
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mm_graft.checkpoints.unpickler import Builder, Inert, Name, UnsafePickleError

DTYPE = re.compile(r'[<>=|]?(b1|\?|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU]\d{1,6})')
FACTORIES = {'builtins.list': list, 'builtins.dict': dict, 'builtins.int': int, 'builtins.float': float,
             'builtins.set': set, 'builtins.str': str}
NUMPY = 'numpy._core.multiarray'


def _container(kind: type, *sources: type) -> Builder:
    def build(args: tuple) -> object:
        if len(args) > 1 or not all(type(arg) in sources for arg in args):
            raise pickle.UnpicklingError(f'a {kind.__name__} of {[type(arg).__name__ for arg in args]}')
        return kind(*args)
    return build


def _bytes(args: tuple) -> bytes:
    text, encoding = args
    if not isinstance(text, str) or encoding not in ('latin1', 'latin-1'):
        raise UnsafePickleError(f'an encoding {encoding!r}')
    return text.encode('latin1')


def _bytearray(args: tuple) -> bytearray:
    content = args[0] if args else b''
    if isinstance(content, str):  # how protocol 2 writes it
        content = content.encode('latin1')
    if not isinstance(content, bytes):
        raise pickle.UnpicklingError('bytes of a mere size')  # it would ask for that much memory
    return bytearray(content)


def _defaultdict(args: tuple) -> object:
    factory = args[0] if args else None
    if factory is None:
        return defaultdict()
    if isinstance(factory, Name) and factory.name in FACTORIES:
        return defaultdict(FACTORIES[factory.name])
    return Inert('collections.defaultdict', args)


def _deque(args: tuple) -> deque:
    items, length = args if len(args) == 2 else ((), None)
    if type(items) not in (list, tuple) or type(length) not in (int, type(None)):
        raise pickle.UnpicklingError('a deque of no list')
    return deque(items, length)


def _dtype(args: tuple) -> object:
    if not args or not isinstance(args[0], str) or not DTYPE.fullmatch(args[0]):
        return Inert('numpy.dtype', args)  # of objects, of records, of times
    return np.dtype(args[0], False, True)


def _filled_array(args: tuple) -> np.ndarray:
    content, dtype, shape, order = args
    array = np.empty(0)
    _set_array(array, (1, shape, dtype, order == 'F', bytes(content) if isinstance(content, bytearray) else content))
    return array


def _scalar(args: tuple) -> object:
    dtype, content = args
    if not isinstance(dtype, np.dtype):
        return Inert(f'{NUMPY}.scalar', args)
    if not isinstance(content, bytes) or len(content) != dtype.itemsize:
        raise pickle.UnpicklingError('a NumPy scalar of another size than its type')
    return np.frombuffer(content, dtype)[0]


def _set_ordered_dict(owner: OrderedDict, state: object) -> None:
    """Attributes that PyTorch and this package keep beside state dicts; none may hide a method."""
    for name, value in (state.items() if isinstance(state, dict) else ()):
        if isinstance(name, str) and not hasattr(OrderedDict, name):
            setattr(owner, name, value)


def _set_inert(owner: Inert, state: object) -> None:
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state, )  # attributes, and those in slots
    for part in parts:
        if isinstance(part, dict):
            owner.fields.update(part)


def _set_dtype(owner: np.dtype, state: object) -> None:
    version, order, *more = state
    if version != 3 or order not in ('<', '>', '|', '=') or any(part is not None for part in more[:3]):
        raise pickle.UnpicklingError('a NumPy type of records')
    size = (owner.itemsize, owner.alignment) if owner.kind in 'SU' else (-1, -1)  # never the file's
    owner.__setstate__((3, order, None, None, None, *size, 0))


def _set_array(owner: np.ndarray, state: object) -> None:
    _, shape, dtype, fortran, content = state
    content = content.encode('latin1') if isinstance(content, str) else content  # written by Python 2
    if not isinstance(dtype, np.dtype) or not isinstance(content, bytes):
        raise pickle.UnpicklingError('a NumPy array of objects')
    if not all(type(size) is int and size >= 0 for size in shape):
        raise pickle.UnpicklingError('a NumPy array of no shape')
    if math.prod(shape) * dtype.itemsize != len(content):
        raise pickle.UnpicklingError('a NumPy array of another size than its content')
    owner.__setstate__((1, tuple(shape), dtype, bool(fortran), content))


def _set_history(owner: HistoryBuffer, state: object) -> None:
    """Values, counts and length; the methods are the class's own."""
    for name in ('_log_history', '_count_history'):
        if not isinstance(state.get(name), np.ndarray):
            raise pickle.UnpicklingError(f'logged values without {name}')
        setattr(owner, name, state[name])
    if type(state.get('max_length')) is int:
        owner.max_length = state['max_length']


BUILDERS: dict[str, Builder] = {
    '_codecs.encode': _bytes,
    'builtins.bytes': lambda args: bytes(_bytearray(args)),
    'builtins.bytearray': _bytearray,
    'builtins.set': _container(set, list, tuple, set, frozenset),
    'builtins.frozenset': _container(frozenset, list, tuple, set, frozenset),
    'builtins.complex': lambda args: complex(*map(float, args)),
    'collections.OrderedDict': _container(OrderedDict, list, tuple, dict, OrderedDict),
    'collections.Counter': _container(Counter, dict),
    'collections.defaultdict': _defaultdict,
    'collections.deque': _deque,
    'copyreg._reconstructor': lambda args: Inert(args[0].name if args and isinstance(args[0], Name) else '?'),
    'numpy.dtype': _dtype,
    f'{NUMPY}._reconstruct': lambda args: np.empty(0),  # filled by its state
    f'{NUMPY}.scalar': _scalar,
    'numpy._core.numeric._frombuffer': _filled_array,
    'mmengine.config.config.ConfigDict': _container(ConfigDict, dict),
    'mmengine.logging.history_buffer.HistoryBuffer': lambda args: HistoryBuffer(),
    'torch.Size': _container(torch.Size, list, tuple),
    'torch.device': lambda args: torch.device(*args),
}
SETTERS: dict[type, Callable] = {
    OrderedDict: _set_ordered_dict, Inert: _set_inert, np.ndarray: _set_array, np.dtype: _set_dtype,
    HistoryBuffer: _set_history}
VALUES: dict[str, object] = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
