import io
import pickle
import struct

import pytest

from mm_graft.checkpoints import unpickler
from mm_graft.checkpoints.unpickler import Inert, Name, PlainUnpickler, UnsafePickleError, check_harmless, describe
from tests.hostile_files import call, name, text


def load(content, **builders):
    return PlainUnpickler(io.BytesIO(content), len(content), builders, {Inert: lambda owner, state: None}, {}).load()


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_plain_values_are_what_they_were(protocol):
    values = [None, True, False, 0, 255, 65536, -1, 2**80, 1.5, 'τ', 'x' * 300, (), (1, ), (1, 2), (1, 2, 3),
              (1, 2, 3, 4), [], [1], {}, {'a': {'b': []}}]
    assert load(pickle.dumps(values, protocol)) == values


@pytest.mark.parametrize('value', [b'abc', b'x' * 300, {1, 2}, frozenset({3}), bytearray(b'ab')])
def test_bytes_and_sets_of_later_protocols(value):
    assert load(pickle.dumps(value, 5)) == value


def test_values_that_stand_twice_are_the_same():
    shared = [1]
    first, second = load(pickle.dumps([shared, shared], 2))
    assert first is second


@pytest.mark.parametrize('content', [
    b'\x80\x02X\xff\xff\xff\x7fab.', b'\x80\x04\x8e' + struct.pack('<Q', 2**40) + b'.',
    b'\x80\x02\x8b\xff\xff\xff\x7f.',
    b'\x80\x05\x96' + struct.pack('<Q', 8 * 10**9) + b'.', b'\x80\x04\x8d' + struct.pack('<Q', 2**62) + b'.',
])
def test_what_declares_more_than_there_is_asks_for_no_memory(content):
    with pytest.raises(EOFError, match='declares more bytes'):
        load(content)


def test_the_number_of_opcodes_has_a_bound(monkeypatch):
    monkeypatch.setattr(unpickler, 'MAX_OPCODES', 100)
    assert load(b'\x80\x02' + b']' * 97 + b'.') == []
    with pytest.raises(pickle.UnpicklingError, match='more than 100 opcodes'):
        load(b'\x80\x02' + b']' * 99 + b'.')


@pytest.mark.parametrize('opcode', [b'I1\n', b"S'a'\n", b'V1\n', b'F1\n', b'L1L\n', b'(l', b'(d', b'Px\n', b'\x82\x01',
                                    b'\x97', b'\x98', b'2', b'g0\n', b'p0\n'])
def test_opcodes_that_pytorch_does_not_write_are_refused(opcode):
    with pytest.raises(UnsafePickleError, match='opcode'):
        load(b'\x80\x02' + opcode + b'.')


def test_a_name_is_never_what_it_names():
    value = load(b'\x80\x02' + name('os', 'system') + b'.')
    assert isinstance(value, Name)
    assert value.name == 'os.system'
    assert not callable(value)
    assert load(b'\x80\x02' + name('copy_reg', 'x') + b'.').name == 'copyreg.x'


def test_an_object_is_an_inert_record_of_what_it_was_made_of():
    made = load(b'\x80\x02' + call(name('project.settings', 'Settings'), b'K\x07') + b'.')
    assert (made.name, made.args) == ('project.settings.Settings', (7, ))
    filled = load(b'\x80\x02' + call(name('project', 'Map')) + text('a') + b'K\x01s' + b'](K\x02K\x03eb.')
    assert filled.fields == {'a': 1}


def test_builders_get_the_arguments():
    assert load(b'\x80\x02' + call(name('a', 'b'), b'K\x01', b'K\x02') + b'.', **{'a.b': sum}) == 3


@pytest.mark.parametrize('harmless', [
    'argparse.Namespace', 'pathlib.PosixPath', 'pathlib._local.PosixPath', 'datetime.timedelta', 'collections.deque',
    'omegaconf.dictconfig.DictConfig', 'project.Settings', '__main__.Settings', 'numpy.float32', 'builtins.getattr'])
def test_classes_of_data_are_harmless(harmless):
    check_harmless(harmless)


@pytest.mark.parametrize('unsafe', [
    'os.system', 'posix.system', 'builtins.eval', 'builtins.exec', 'subprocess.Popen', 'shutil.rmtree', 'project.run',
    'pathlib.os.remove', 'pathlib.Path.unlink', 'torch.hub.load', 'torch.load', 'functools.reduce', '__main__.main',
    'numpy.testing._private.utils.runstring', 'operator.attrgetter', 'argparse.FileType', 'collections.abc.sys.exit'])
def test_functions_and_the_standard_library_are_not(unsafe):
    with pytest.raises(UnsafePickleError, match=unsafe):
        check_harmless(unsafe)


def test_what_is_called_is_described_though_it_is_made_up():
    method = Inert('builtins.getattr', (Inert('builtins.getattr', (Name('os'), 'path')), 'join'))
    assert describe(method) == 'os.path.join'
    assert describe(3) == 'a call of a int'
    with pytest.raises(UnsafePickleError, match=r'os\.path\.join'):
        load(b'\x80\x02' + call(call(name('builtins', 'getattr'), name('os', 'path'), text('join'))) + b'.')


SETTINGS = name('project', 'Settings')


@pytest.mark.parametrize('program', [
    b'K\x01)R', b'K\x01}b', b')K\x01K\x02s', b'}K\x01a', b')(K\x01\x90', SETTINGS + b')}' + text('k') + b'K\x01s\x92',
    SETTINGS + b'}b', b'K\x01Q'])
def test_calls_states_and_items_of_other_things_are_refused(program):
    with pytest.raises(UnsafePickleError):
        load(b'\x80\x04' + program + b'.')


@pytest.mark.parametrize('content', [b'', b'\x80', b'\x80\x02', b'\x80\x02h\x05.', b'\x80\x63.', b'\x80\x02.',
                                     b'\x80\x02e.', b'\x80\x02c' + b'a' * 2000 + b'\n' + b'b' * 2000 + b'\n.'])
def test_damaged_pickles_are_errors(content):
    with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, IndexError)):
        load(content)
