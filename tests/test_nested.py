import pytest
from mmengine.config import Config

from mm_graft.nested import leaves, nodes, value_at

CONTENT = {'a': 1, 'b': [{'c': 2}, (3, 4)], 'd': {}, 'e': 'text'}


@pytest.mark.parametrize('form', [lambda content: content, Config])
def test_everything_inside_has_a_dotted_key(form):
    content = form(CONTENT)
    assert dict(leaves(content)) == {'a': 1, 'b.0.c': 2, 'b.1.0': 3, 'b.1.1': 4, 'd': {}, 'e': 'text'}
    keys = [key for key, _ in nodes(content, 'x')]
    assert keys == ['x', 'x.a', 'x.b', 'x.b.0', 'x.b.0.c', 'x.b.1', 'x.b.1.0', 'x.b.1.1', 'x.d', 'x.e']
    assert all(value_at(content, key) == value for key, value in nodes(content) if key)


@pytest.mark.parametrize('key', ['z', 'a.z', 'b.2', 'b.c', 'e.0', 'd.z'])
def test_what_is_not_there_is_none(key):
    assert value_at(CONTENT, key) is None
