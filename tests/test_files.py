import json
import random
from contextlib import suppress

import pytest

from mm_graft.files import read_small_json, read_small_text


def test_text_and_json_are_read(tmp_path):
    path = tmp_path / 'a'
    path.write_text('τ 1\n')
    assert read_small_text(path) == 'τ 1\n'
    path.write_text('{"a": [1, null]}')
    assert read_small_json(path) == {'a': [1, None]}
    assert read_small_text(path, limit=16) == '{"a": [1, null]}'


def test_what_is_too_large_is_not_read_to_its_end(tmp_path):
    path = tmp_path / 'a'
    with path.open('wb') as file:
        file.truncate(2**40)  # a hole: a terabyte that takes no room
    with pytest.raises(ValueError, match=f'{path} has more than 1000 bytes'):
        read_small_text(path, limit=1000)
    with pytest.raises(ValueError, match='more than'):
        read_small_json(path, limit=1000)


@pytest.mark.parametrize('content', [b'\xff\xfe', b'[' * 10**6, b'{"a": ', b'', b'1' * 10**5])
def test_what_is_no_json_is_one_kind_of_error_that_names_the_file(tmp_path, content):
    (tmp_path / 'a').write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path / 'a')):
        read_small_json(tmp_path / 'a')


def test_damaged_json_is_content_or_that_error(tmp_path):
    rng, path = random.Random(0), tmp_path / 'a'
    whole = json.dumps({'protocols': {'knn': {'top1': 12.5}}, 'seconds': 3}).encode()
    for _ in range(500):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 4, 20))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[:rng.randrange(len(content) + 1)])
        with suppress(ValueError):
            read_small_json(path)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_small_text(tmp_path / 'none')
