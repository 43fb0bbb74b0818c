import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from mm_graft.analysis.page import Section, render


def picture():
    figure = Figure(figsize=(1, 1))
    figure.add_axes([0, 0, 1, 1]).imshow(np.zeros((2, 2, 3)))
    return figure


class Balanced(HTMLParser):
    void = ('meta', 'img')

    def __init__(self, text):
        super().__init__()
        self.open, self.words = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_needs_nothing_from_elsewhere():
    section = Section('One', 'words', figure=picture(), alternative='a square')
    page = render('A title', 'a line', [section], 'mm_graft x')
    Balanced(page)
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import', page)
    assert 'alt="a square"' in page
    image = Image.open(BytesIO(base64.b64decode(re.search(r'base64,([^"]+)', page)[1])))
    assert image.size == (110, 110)


def test_it_knows_light_and_dark():
    page = render('t', 's', [])
    assert 'prefers-color-scheme: dark' in page
    assert 'color-scheme: light dark' in page


def test_what_users_call_their_files_cannot_break_it():
    page = render('<b>&', '"', [Section('<i>', '<script>alert(1)</script>', [['<u>'], ['</table>']])], '<x>')
    Balanced(page)
    assert '<script>' not in page
    assert '&lt;script&gt;' in page


def test_tables_have_a_header_and_numbers_to_the_right():
    rows = [['what', 'before', 'after'], ['kNN', 12.34567, 40], ['RankMe', '–', 3.0]]
    page = render('t', 's', [Section('n', table=rows)])
    words = Balanced(page).words
    assert {'what', 'before', 'after', 'kNN', '12.35', '40', '–', '3'} <= set(words)
    assert page.count('class="number"') + page.count('class=number') == 3
    assert page.count('<th ') == 3
