import pytest
from mmengine.config import Config

from mm_graft.host.config_variables import assigned, assignment, with_values


@pytest.mark.parametrize(('key', 'value', 'line'), [
    ('epochs', 3, 'epochs = 3'), ('name', 'it\'s', 'name = "it\'s"'), ('arch.width', 8, "arch['width'] = 8"),
    ('steps.0.prob', None, "steps[0]['prob'] = None"), ('sizes', (1, [2.5]), 'sizes = (1, [2.5])')])
def test_a_value_becomes_a_line_of_python(key, value, line):
    assert assignment(key, value) == line


@pytest.mark.parametrize(('text', 'result'), [
    ('a = 1\nb = a\n', 'a = 1\na = 5\nb = a\n'),
    ('a, c = 1, 2\nb = a', 'a, c = 1, 2\na = 5\nb = a\n'),
    ('a = dict(\n    x=1)\na = 2\n', 'a = dict(\n    x=1)\na = 5\na = 2\na = 5\n'),
    ('if True:\n    a = 1\n', 'if True:\n    a = 1\na = 5\n'),
    ('b = [a for a in (1, 2)]\n', 'b = [a for a in (1, 2)]\n'),
    ('def f():\n    a = 1\n', 'def f():\n    a = 1\n'),
    ('b = dict(a=1)\n', 'b = dict(a=1)\n'),
    ('a = (\n', 'a = (\n')])
def test_each_statement_that_binds_the_variable_is_followed_by_its_value(text, result):
    assert with_values(text, {'a': 5}) == result


FILES = {
    'base.py': 'width = 4\nmodel = dict(width=width, heads=width // 2)\n',
    'leaf.py': "_base_ = 'base.py'\nepochs = 2\nrun = dict(epochs=epochs, width={{_base_.width}})\n",
    'plain.yaml': 'epochs: 2\n',
}


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_is_derived_follows_in_every_file_of_the_inheritance(folder):
    with assigned({'width': 10, 'epochs': 7}):
        cfg = Config.fromfile(folder / 'leaf.py')
    assert cfg.to_dict() == {'width': 10, 'model': {'width': 10, 'heads': 5}, 'epochs': 7,
                             'run': {'epochs': 7, 'width': 10}}
    assert cfg.filename == str(folder / 'leaf.py')


def test_configs_are_read_as_before_once_it_is_closed(folder):
    before = Config._substitute_predefined_vars
    (folder / 'broken.py').write_text('a = (')
    with pytest.raises(SyntaxError), assigned({'width': 10}):
        Config.fromfile(folder / 'broken.py')
    assert Config._substitute_predefined_vars is before
    assert Config.fromfile(folder / 'leaf.py').model.width == 4


def test_a_file_that_is_no_python_stays_as_it_is(folder):
    with assigned({'epochs': 7}):
        assert Config.fromfile(folder / 'plain.yaml').epochs == 2
