import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch

from mm_graft.checkpoints.torch_files import MAX_EXPANSION, Reader, read_archive, read_legacy
from mm_graft.checkpoints.unpickler import Inert, UnsafePickleError
from tests.hostile_files import call, name, text, zip_file

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128]
OLD = dict(_use_new_zipfile_serialization=False)


def saved(content, **kwargs):
    file = io.BytesIO()
    torch.save(content, file, **kwargs)
    file.seek(0)
    return file


def read(content, **kwargs):
    return (read_legacy if kwargs == OLD else read_archive)(saved(content, **kwargs))


@pytest.fixture(params=[{}, OLD, dict(pickle_protocol=4)], ids=['archive', 'before 1.6', 'protocol 4'])
def again(request):
    return lambda content: read(content, **request.param)


def same(one, other):
    assert type(one) is type(other)
    assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
    assert torch.equal(one, other)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_tensors_of_all_types_are_what_they_were(again, dtype):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    same(again({'a': tensor})['a'], tensor)


def test_types_that_storages_do_not_know():
    for dtype in (torch.uint16, torch.float8_e4m3fn):
        tensor = torch.zeros(3, dtype=dtype)
        assert read({'a': tensor})['a'].dtype == dtype


@pytest.mark.parametrize('view', [
    lambda x: x[1:, ::2], lambda x: x.t(), lambda x: x[0, 0], lambda x: x[:0], lambda x: x.new_empty(0, 3),
    lambda x: x.expand(2, 3, 4), lambda x: x[2:3].expand(5, 4)])
def test_views_are_what_they_were_and_share_their_storage(again, view):
    whole = torch.arange(12.).reshape(3, 4)
    one, other = again([view(whole), whole])
    same(one, view(whole))
    same(other, whole)
    if one.numel() and view(whole).data_ptr() != one.data_ptr():
        assert one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def test_parameters_and_state_dicts_are_what_they_were(again):
    module = torch.nn.Linear(2, 3)
    result = again({'own': module.weight, 'fixed': torch.nn.Parameter(torch.ones(1), requires_grad=False),
                    'state': module.state_dict()})
    same(result['own'], module.weight)
    assert (result['own'].requires_grad, result['fixed'].requires_grad) == (True, False)
    assert type(result['state']) is OrderedDict
    assert result['state']._metadata == module.state_dict()._metadata


def test_a_tensor_of_a_class_of_its_own_is_not_built_and_one_with_attributes_is():
    marked = torch.ones(2)
    marked.note = 'x'
    same(read({'a': marked})['a'], torch.ones(2))
    buffer = torch.nn.Buffer(torch.ones(2)).as_subclass(Special)
    assert isinstance(read({'a': buffer})['a'], Inert)


class Special(torch.Tensor):
    """A class of its own."""


def test_an_optimizer_is_what_it_was():
    module = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    result = read(state)
    assert result['param_groups'] == state['param_groups']
    same(result['state'][0]['exp_avg'], state['state'][0]['exp_avg'])


def test_without_tensors_their_content_is_not_read():
    file = saved({'a': torch.ones(5), 'meta': {'iter': 3}})
    raw = bytearray(file.getvalue())
    raw[raw.index(torch.ones(5).numpy().tobytes())] ^= 1
    result = read_archive(io.BytesIO(raw), tensors=False)
    assert (result['meta'], result['a'].shape, result['a'].device.type) == ({'iter': 3}, (5, ), 'meta')
    with pytest.raises(zipfile.BadZipFile, match='CRC'):
        read_archive(io.BytesIO(raw))


def test_storages_go_to_the_device_that_is_wanted():
    asked = []
    meta = torch.device('meta')
    result = read_archive(saved({'a': torch.ones(2)}), device_of=lambda name: asked.append(name) or meta)
    assert asked == ['cpu']
    assert result['a'].device.type == 'meta'


def integer(value):
    return b'\x8a\x08' + value.to_bytes(8, 'little', signed=True)


def tensor(offset, shape, stride, count=4, kind='FloatStorage', key='0', module='torch'):
    """A pickle of one tensor in a storage of ``count`` elements."""
    storage = b'(' + text('storage') + name(module, kind) + text(key) + text('cpu') + integer(count) + b'tQ'
    numbers = [b'(' + b''.join(map(integer, values)) + b't' for values in (shape, stride)]
    return b'\x80\x02' + call(name('torch._utils', '_rebuild_tensor_v2'), storage, integer(offset), *numbers, b'\x89',
                              call(name('collections', 'OrderedDict'))) + b'.'


def archive(tmp_path, program, content=bytes(16), record='archive/data/0'):
    return zip_file(tmp_path / 'a.pth', ('archive/data.pkl', program), (record, content)).open('rb')


def test_a_tensor_written_by_hand_is_read(tmp_path):
    content = torch.arange(4.).numpy().tobytes()
    assert read_archive(archive(tmp_path, tensor(1, [3], [1]), content)).tolist() == [1, 2, 3]


@pytest.mark.parametrize('program', [
    tensor(0, [5], [1]), tensor(1, [4], [1]), tensor(0, [2], [4]), tensor(-1, [1], [1]), tensor(0, [-1], [1]),
    tensor(0, [2], [-1]), tensor(0, [1] * 65, [1] * 65), tensor(0, [1], []), tensor(0, [2**40], [0]),
    tensor(0, [2**40, 2**40], [0, 0]), tensor(0, [1], [1], count=5), tensor(0, [1], [1], count=2**60),
    tensor(0, [1], [1], kind='StrangeStorage'), tensor(0, [1], [1], kind='system', module='os'),
    tensor(0, [1], [1], key='1'), tensor(0, [1], [1], key='../0')])
def test_tensors_that_do_not_fit_their_storage_or_the_file_are_refused(tmp_path, program):
    with pytest.raises((pickle.UnpicklingError, zipfile.BadZipFile)):
        read_archive(archive(tmp_path, program))


def test_what_views_repeat_is_bounded_in_sum(tmp_path):
    few = MAX_EXPANSION // 8 + 1
    assert read_archive(archive(tmp_path, tensor(0, [few], [0]))).shape == (few, )
    twice = tensor(0, [few], [0])[2:-1]
    body = b'\x80\x02](' + twice + twice + twice + b'e.'
    with pytest.raises(pickle.UnpicklingError, match='repeats'):
        read_archive(archive(tmp_path, body))


CHANGES = ['deflate', 'twice', 'folders', 'before', 'behind', 'comment', 'no pickle', 'big endian']


@pytest.mark.parametrize('change', CHANGES)
def test_archives_that_pytorch_does_not_write_are_refused(tmp_path, change):
    content = pickle.dumps({}, 2)
    records = [('a/data.pkl', content), ('a/data/0', b'x')]
    records += {'twice': records[:1], 'folders': [('b/data.pkl', content)],
                'big endian': [('a/byteorder', b'big')]}.get(change, [])
    method = zipfile.ZIP_DEFLATED if change == 'deflate' else zipfile.ZIP_STORED
    with zipfile.ZipFile(tmp_path / 'a', 'w', method) as out:
        for record, value in records[change == 'no pickle':]:
            out.writestr(record, value)
        out.comment = b'x' if change == 'comment' else b''
    raw = (tmp_path / 'a').read_bytes()
    raw = (b'xx' if change == 'before' else b'') + raw + (b'xx' if change == 'behind' else b'')
    with pytest.raises((zipfile.BadZipFile, pickle.UnpicklingError)):
        read_archive(io.BytesIO(raw))


def test_the_same_archive_without_the_change_is_read(tmp_path):
    assert read_archive(zip_file(tmp_path / 'a', ('archive/data.pkl', pickle.dumps({}, 2))).open('rb')) == {}


def test_torchscript_is_code(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Identity()), tmp_path / 'a.pt')
    with pytest.raises(UnsafePickleError, match='TorchScript'):
        read_archive((tmp_path / 'a.pt').open('rb'))


def legacy(**changes):
    raw = saved({'a': torch.arange(4.)}, **OLD).getvalue()
    end = raw[-24:]
    return raw[:-24] + changes.get('count', end[:8]) + changes.get('content', end[8:]) + changes.get('more', b'')


def test_storages_of_files_before_1_6_must_be_there_and_no_more():
    assert read_legacy(io.BytesIO(legacy()))['a'].tolist() == [0, 1, 2, 3]
    for change in (dict(content=bytes(15)), dict(more=b'x'), dict(count=struct.pack('<q', 3)),
                   dict(count=struct.pack('<q', 0)), dict(count=struct.pack('<q', -4))):
        with pytest.raises((pickle.UnpicklingError, EOFError)):
            read_legacy(io.BytesIO(legacy(**change)))


@pytest.mark.parametrize('pid', [b'K\x01', b'(K\x01t', b'(' + text('storage') + b't', b'(' + text('other') + b'NNt'])
def test_other_persistent_ids_are_refused(pid):
    content = b'\x80\x02' + pid + b'Q.'
    with pytest.raises(UnsafePickleError, match='persistent id'):
        Reader(None).unpickle(io.BytesIO(content), len(content))


SYSTEM = pickle.dumps({'little_endian': True}, 2)
BOMBS = {
    'bytearray': b'\x80\x02' + call(name('builtins', 'bytearray'), integer(8 * 10**9)) + b'.',
    'lists in lists': b'\x80\x02' + b']' * 600_000 + b'a' * 599_999 + b'.',
    'zeros': bytes(2**20),
    'sets': b'\x80\x04' + b'\x8f' * 1_100_000 + b'.',
    'declared storage': tensor(0, [2**34], [1], count=2**34),
}


def test_small_files_take_bounded_memory(tmp_path):
    files = [zip_file(tmp_path / what, ('archive/data.pkl', content)) for what, content in BOMBS.items()]
    files.append(tmp_path / 'declared storage, before 1.6')
    files[-1].write_bytes(pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps(1001, 2) + SYSTEM
                          + BOMBS['declared storage'] + pickle.dumps(['0'], 2) + bytes(8))
    script = ('import sys, resource; from mm_graft.checkpoints.reading import read_content, CheckpointError\n'
              'before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n'
              'for path in sys.argv[1:]:\n'
              '    try: read_content(path)\n    except CheckpointError as error: assert path in str(error)\n'
              '    else: raise SystemExit(path)\n'
              'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', script, *map(str, files)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2**19  # in KiB: half a gigabyte
