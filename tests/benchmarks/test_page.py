import pytest

from benchmarks.page import parts, put


def test_a_table_is_written_in_its_place_and_replaces_the_old_one(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- speed -->\nold\n<!-- /speed -->\nafter\n')
    for text in ('new', '\nnewer\n\n'):
        put(page, 'speed', text)
    assert page.read_text() == 'before\n<!-- speed -->\nnewer\n<!-- /speed -->\nafter\n'
    assert parts(page, 'speed') == ('before\n<!-- speed -->\n', 'newer\n', '<!-- /speed -->\nafter\n')


@pytest.mark.parametrize('text', ['', '<!-- speed -->\n', 2 * '<!-- speed -->\n<!-- /speed -->\n'])
def test_a_page_without_one_place_for_it_is_left_alone(tmp_path, text):
    page = tmp_path / 'page.md'
    page.write_text(text)
    with pytest.raises(ValueError, match="no place of its own for the table 'speed'"):
        put(page, 'speed', 'new')
    assert page.read_text() == text
