import argparse
import datetime
import io
import pathlib
import pickle
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from mm_graft.checkpoints.builders import BUILDERS, SETTERS, VALUES
from mm_graft.checkpoints.unpickler import Inert, PlainUnpickler, UnsafePickleError
from tests.hostile_files import call, name, text


def read(content):
    return PlainUnpickler(io.BytesIO(content), len(content), BUILDERS, SETTERS, VALUES).load()


@pytest.fixture(params=[2, 4, 5])
def again(request):
    return lambda value: read(pickle.dumps(value, request.param))


@pytest.mark.parametrize('value', [
    OrderedDict(b=1, a=[2]), Counter('aab'), deque([1, 2], 5), deque(), defaultdict(list, a=[1]), {1, 2},
    frozenset([1]), b'', b'\xff\x00', bytearray(b'ab'), bytearray(), 1 + 2j, torch.Size([1, 2]),
    torch.device('cuda', 1), torch.float16, torch.uint16])
def test_containers_and_values_of_torch_are_what_they_were(again, value):
    result = again(value)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize('array', [
    np.arange(6.).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(['ab', 'c']), np.array([b'x']),
    np.zeros((0, 3)), np.array(2.5), np.array([True]), np.array([1 + 1j]), np.arange(3, dtype='>i4'), np.float16([1])])
def test_arrays_are_what_they_were(again, array):
    result = again([array, array])
    np.testing.assert_array_equal(result[0], array)
    assert result[0].dtype == pickle.loads(pickle.dumps(array)).dtype
    assert result[0] is result[1]
    result[0].fill(0)  # of its own memory


@pytest.mark.parametrize('scalar', [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_('a')])
def test_numpy_scalars_are_what_they_were(again, scalar):
    assert again(scalar) == scalar
    assert type(again(scalar)) is type(scalar)


def test_logged_values_are_what_they_were_with_the_methods_of_the_class(again):
    result = again(HistoryBuffer([1., 3.], [1, 1], max_length=7))
    assert (result.mean(), result.max_length) == (2, 7)
    result.update(5)
    assert result.statistics('max') == 5
    assert result._statistics_methods is HistoryBuffer._statistics_methods


def test_a_config_is_one(again):
    result = again(ConfigDict(a=dict(b=[1, dict(c=2)])))
    assert result.a.b[1].c == 2


def test_what_a_training_keeps_beside_its_weights_is_an_inert_record(again):
    args = again(argparse.Namespace(lr=0.1, out=pathlib.Path('x'), when=datetime.timedelta(1)))
    assert isinstance(args, Inert)
    assert args.fields['lr'] == 0.1
    assert isinstance(args.fields['out'], Inert)
    assert args.fields['when'].name == 'datetime.timedelta'


@pytest.mark.parametrize('array', [
    np.array([None]), np.array([{}], dtype=object), np.zeros(2, dtype=[('a', 'f4')]), np.zeros(2, 'M8[s]')])
def test_arrays_of_objects_records_and_times_are_refused(array):
    with pytest.raises(pickle.UnpicklingError, match='objects'):
        read(pickle.dumps(array, 2))


def number(value):
    return b'J' + value.to_bytes(4, 'little', signed=True)


F8 = call(name('numpy', 'dtype'), text('f8'), b'\x89', b'\x88')
EMPTY = call(name('numpy.core.multiarray', '_reconstruct'), name('numpy', 'ndarray'), b'K\x00\x85', text('b'))
LATIN = (name('_codecs', 'encode'), )


def array_state(shape, content, dtype=F8):
    return b'(' + number(1) + b'(' + b''.join(map(number, shape)) + b't' + dtype + b'\x89' + call(
        *LATIN, text(content), text('latin1')) + b't'


@pytest.mark.parametrize('program', [
    EMPTY + array_state([10**9], 'x' * 8) + b'b', EMPTY + array_state([-1], 'x' * 8) + b'b',
    EMPTY + array_state([1], 'x' * 8, text('f8')) + b'b',
    call(name('numpy.core.multiarray', 'scalar'), F8, call(*LATIN, text('abc'), text('latin1'))),
    call(name('builtins', 'bytearray'), number(2**30)),
    call(name('builtins', 'bytearray'), b'\x8a\x05' + bytes(4) + b'\x01'),
    call(name('collections', 'deque'), text('abc'), number(1)), call(name('collections', 'OrderedDict'), text('abc')),
    call(name('builtins', 'set'), number(3)), call(name('torch', 'Size'), number(3)),
    call(name('mmengine.logging.history_buffer', 'HistoryBuffer')) + b'}b',
    F8 + b'(' + number(3) + text('<') + b'NNN' + number(2**20) * 2 + number(0) + b'tb' + b'0' + F8 + b'(' + number(4)
    + text('<') + b'NNNtb',
])
def test_hostile_arguments_are_refused_before_memory_is_asked_for(program):
    with pytest.raises(pickle.UnpicklingError):
        read(b'\x80\x02' + program + b'.')


def test_the_size_of_a_type_is_never_the_files():
    state = b'(' + number(3) + text('<') + b'NNN' + number(2**20) * 2 + number(0) + b'tb'
    assert read(b'\x80\x02' + F8 + state + b'.').itemsize == 8


def test_attributes_beside_a_state_dict_stay_and_hide_no_method():
    made = call(name('collections', 'OrderedDict')) + text('a') + number(1) + b's'
    state = b'}(' + text('_metadata') + b'}' + text('x') + number(1) + b's' + text('items') + number(5) + b'u'
    result = read(b'\x80\x02' + made + state + b'b.')
    assert result._metadata == {'x': 1}
    assert list(result.items()) == [('a', 1)]


def test_other_encodings_and_factories_do_nothing():
    with pytest.raises(UnsafePickleError, match='encoding'):
        read(b'\x80\x02' + call(*LATIN, text('x'), text('rot13')) + b'.')
    factory = read(b'\x80\x02' + call(name('collections', 'defaultdict'), name('os', 'getcwd')) + b'.')
    assert isinstance(factory, Inert)
