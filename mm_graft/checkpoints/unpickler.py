"""Pickles as data: numbers, texts, containers, tensors and arrays are built, everything else becomes an inert record.

A pickle is a program. Here its opcodes are those that PyTorch and NumPy write, a name never becomes the object that it
names, and a call is answered by one of the builders of this package. So nothing that a file says can run code.
"""

import pickle
import re
import sys
from collections import deque
from collections.abc import Callable
from typing import BinaryIO, ClassVar

MAX_OPCODES = 1_000_000  # of one pickle, each up to some 200 bytes; a run of ViT-L has 40,000
MAX_NAME = 1000
# Python 2's names, which protocol 2 writes to this day, and NumPy 1's
MODULES = {'__builtin__': 'builtins', 'copy_reg': 'copyreg', 'numpy.core.multiarray': 'numpy._core.multiarray',
           'numpy.core.numeric': 'numpy._core.numeric'}
OPCODES = (
    'PROTO', 'STOP', 'MARK', 'POP', 'POP_MARK', 'NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1',
    'LONG4', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES',
    'SHORT_BINBYTES', 'BINBYTES8', 'EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3', 'EMPTY_LIST', 'APPEND',
    'APPENDS', 'EMPTY_DICT', 'SETITEM', 'SETITEMS', 'EMPTY_SET', 'ADDITEMS', 'FROZENSET', 'BINPUT', 'LONG_BINPUT',
    'MEMOIZE', 'BINGET', 'LONG_BINGET', 'BINPERSID', 'GLOBAL', 'STACK_GLOBAL')
# Calls that are taken for those of a class of data, and give an inert record. Of other packages than Python's own every
# class is, by its capital letter
DATA = re.compile(
    r'argparse\.Namespace|types\.SimpleNamespace|decimal\.Decimal|fractions\.Fraction|uuid\.UUID|functools\.partial|'
    r'pathlib(\._local)?\.\w*Path|collections\.\w+|datetime\.\w+|zoneinfo\.ZoneInfo|'
    r'builtins\.(getattr|slice|range|object|list|dict|tuple|int|float|str|bool|bytes|type)|'
    r'numpy\.\w+|numpy\.random\._pickle\.\w+|torch\._utils\._rebuild_\w+|torch\.serialization\._get_layout|'
    r'deepspeed\.utils\.tensor_fragment\.fragment_address')


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle that would have called something; the message names it."""


class Name:
    """A global name in a pickle, which is never resolved."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f'<{self.name}>'


class Inert:
    """A record of an object whose class is not built: class name and content.

    Attributes:
        name: module and name of the class.
        args: what it was called with.
        fields: its attributes, or the items of a mapping.
        items: the items of a sequence or set.
    """

    def __init__(self, name: str, args: tuple = ()) -> None:
        self.name, self.args, self.fields, self.items = name, args, {}, []

    def __repr__(self) -> str:
        return f'<a {self.name}, not opened>'


Builder = Callable[[tuple], object]


class PlainUnpickler(pickle._Unpickler):
    """Python's own unpickler with few opcodes and no access to modules.

    Args:
        file: where the pickle begins; it is read no further than its end.
        remaining: bytes from here to the end of the file.
        builders: name → how to build what a call of it gives.
        setters: type → how to give an object of it its state.
        values: name → what it is by itself, without a call.
        load_persistent: what the file's references to storages become.

    Raises:
        UnsafePickleError: from :meth:`load`, the pickle calls what is no class of data, or has opcodes that PyTorch
            does not write.
        pickle.UnpicklingError: damaged, or larger than the bounds.
    """

    dispatch: ClassVar = {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
                          for name in OPCODES}

    def __init__(
        self, file: BinaryIO, remaining: int, builders: dict[str, Builder], setters: dict[type, Callable],
        values: dict[str, object], load_persistent: Callable | None = None,
    ) -> None:
        self.source = _BoundedReader(file, remaining)
        super().__init__(self.source, encoding='latin1')
        self.builders, self.setters, self.values = builders, setters, values
        self.load_persistent = load_persistent

    def load(self) -> object:
        """The one value of the pickle."""
        try:
            return super().load()
        except KeyError as error:
            code = error.args[0] if error.args else None
            if not isinstance(code, int) or code in self.dispatch:
                raise pickle.UnpicklingError(f'a pickle that refers to {code!r}, which it does not hold') from error
            raise UnsafePickleError(f'the opcode {bytes([code])!r}, which PyTorch does not write') from error

    def persistent_load(self, pid: object) -> object:
        """An object outside the pickle."""
        if self.load_persistent is None:
            raise UnsafePickleError('a persistent id')
        return self.load_persistent(pid)

    def find_class(self, module: str, name: str) -> object:
        """The :class:`Name`, or the plain value registered for it."""
        if len(module) + len(name) > MAX_NAME:
            raise pickle.UnpicklingError('an absurdly long name')
        full = f'{MODULES.get(module, module)}.{name}'
        return self.values[full] if full in self.values else Name(full)

    def call(self, function: object, args: object) -> None:
        """Push the result of a call."""
        if not isinstance(function, Name) or not isinstance(args, tuple):
            raise UnsafePickleError(describe(function))
        builder = self.builders.get(function.name)
        if builder is None:
            check_harmless(function.name)
        self.append(builder(args) if builder else Inert(function.name, args))

    def load_reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.call(function, args)

    def load_newobj_ex(self) -> None:
        keywords, args, cls = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if keywords:
            raise UnsafePickleError(f'{describe(cls)} with keywords')
        self.call(cls, args)

    def load_build(self) -> None:
        state, owner = self.stack.pop(), self.stack[-1]
        setter = next((setter for kind, setter in self.setters.items() if isinstance(owner, kind)), None)
        if setter is None:
            raise UnsafePickleError(f'a state for {type(owner).__name__}')
        setter(owner, state)

    def load_bytearray8(self) -> None:
        size = int.from_bytes(self.read(8), 'little')
        self.append(bytearray(self.read(size)))

    def load_frame(self) -> None:
        self.read(8)  # frames only help readers of streams

    def load_setitems(self) -> None:
        items = self.pop_mark()
        target = _contents(self.stack[-1], 'fields', dict)
        for index in range(0, len(items) - 1, 2):
            target[items[index]] = items[index + 1]

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _contents(self.stack[-1], 'fields', dict)[key] = value

    def load_appends(self) -> None:
        items = self.pop_mark()
        _contents(self.stack[-1], 'items', list, deque).extend(items)

    def load_append(self) -> None:
        value = self.stack.pop()
        _contents(self.stack[-1], 'items', list, deque).append(value)

    def load_additems(self) -> None:
        items = self.pop_mark()
        target = _contents(self.stack[-1], 'items', set)
        (target.update if isinstance(target, set) else target.extend)(items)

    for _opcode, _method in (
        ('REDUCE', load_reduce), ('NEWOBJ', load_reduce), ('NEWOBJ_EX', load_newobj_ex), ('BUILD', load_build),
        ('BYTEARRAY8', load_bytearray8), ('FRAME', load_frame), ('SETITEM', load_setitem), ('SETITEMS', load_setitems),
        ('APPEND', load_append), ('APPENDS', load_appends), ('ADDITEMS', load_additems),
    ):
        dispatch[getattr(pickle, _opcode)[0]] = _method
    del _opcode, _method


class _BoundedReader:
    """A reader that stops at the end of the file and after a maximum of opcodes (single bytes)."""

    def __init__(self, file: BinaryIO, remaining: int) -> None:
        self.file, self.remaining, self.opcodes = file, remaining, 0

    def read(self, size: int) -> bytes:
        if size == 1:
            self.opcodes += 1
            if self.opcodes > MAX_OPCODES:
                raise pickle.UnpicklingError(f'more than {MAX_OPCODES} opcodes')
        if not 0 <= size <= self.remaining:
            raise EOFError('it declares more bytes than it has')
        self.remaining -= size
        return self.file.read(size)

    def readline(self) -> bytes:
        line = self.file.readline(MAX_NAME)
        self.remaining -= len(line)
        return line

    def readinto(self, buffer: bytearray) -> int:
        raise pickle.UnpicklingError('a buffer outside the pickle')


def describe(function: object) -> str:
    """The name of what a pickle calls, for messages; also of nested attributes."""
    if not isinstance(function, Name | Inert):
        return f'a call of a {type(function).__name__}'
    if isinstance(function, Inert) and function.name == 'builtins.getattr' and len(function.args) == 2:
        return f'{describe(function.args[0])}.{function.args[1]}'
    return function.name


def check_harmless(name: str) -> None:
    """Refuse a name that is a function's, or of the standard library, and not that of a class of data."""
    foreign = name.split('.')[0] not in sys.stdlib_module_names
    if not (DATA.fullmatch(name) or (foreign and name.rsplit('.', 1)[-1].lstrip('_')[:1].isupper())):
        raise UnsafePickleError(name)


def _contents(target: object, field: str, *kinds: type) -> dict | list | deque | set:
    """Where items go: into a container of these kinds itself, or into the field of a record."""
    if isinstance(target, Inert):
        return getattr(target, field)
    if isinstance(target, kinds):
        return target
    raise UnsafePickleError(f'items for {type(target).__name__}')
