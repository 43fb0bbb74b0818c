"""A score that a config or its page quotes says what was measured, whose number it is and by whose protocol."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for path in ROOT.glob('configs/**/*.py') if '_base_' not in path.parts)
PAGES = sorted(ROOT.glob('configs/**/README.md'))
# 83.6, 83.6 %; not arXiv's numbers, nor a share of a run
SCORE = re.compile(r'(?<![\d.@])[1-9]\d\.\d{1,2}(?![\d.])(?! ?(?:M\b|GPU|% of the (?:run|epoch)))')
MEASURE = re.compile(r'linear|kNN|fine-tuned|fine-tuning|top-1|mIoU|\bAP\b|zero-shot')
SOURCE = re.compile(r'paper|Table|README|model card|the authors|logs')
PROTOCOL = re.compile(r'\b(?:by|of) (?:its|their|this|the|these|MAE\'s|LocalMIM\'s|mmseg\'s)[^.;]*\b'
                      r'(?:recipes?|protocols?|evaluations?)\b')


def expected(text):
    """The entry of a header that says what to expect, on one line."""
    header = text.split('"""')[1]
    entry = re.search(r'^Expected:.*?(?=^[A-Z]\w+: |\Z)', header, re.M | re.S)
    return ' '.join(entry[0].split()) if entry else ''


def lacking(text):
    return [rule for rule, words in (('measure', MEASURE), ('source', SOURCE), ('protocol', PROTOCOL))
            if not words.search(text)]


@pytest.mark.parametrize(('text', 'lacks'), [
    ('Expected: linear 77.7 (paper, Table 2, by its own protocol)', []),
    ('Expected: linear 77.7 (paper, Table 2)', ['protocol']),
    ('Expected: 77.7 (paper, by its own protocol)', ['measure']),
    ('Expected: fine-tuned 83.6, by this recipe', ['source'])])
def test_the_rules_see_what_is_missing(text, lacks):
    assert lacking(text) == lacks


def test_scores_are_told_from_other_numbers():
    assert SCORE.findall('kNN 69.3 %, 83.51 / 42.5, top-1 86.8') == ['69.3', '83.51', '42.5', '86.8']
    others = 'arXiv 2302.14138, 27.5 % of the run, 21.3 M, 0.65, 1e-3, 1.6e-3, maws@12.34, 42.6 GPU hours'
    assert SCORE.findall(others) == []


def test_every_header_with_a_score_says_its_measure_its_source_and_its_protocol():
    quoting = {path: expected(path.read_text()) for path in CONFIGS if SCORE.search(expected(path.read_text()))}
    assert len(quoting) > 30
    assert {str(path.relative_to(ROOT)): found for path, text in quoting.items() if (found := lacking(text))} == {}


def test_a_header_quotes_scores_only_where_it_says_what_to_expect():
    stray = {}
    for path in CONFIGS:
        text = path.read_text()
        rest = ' '.join(text.split('"""')[1].split()).replace(expected(text), '')
        if SCORE.search(rest):
            stray[str(path.relative_to(ROOT))] = SCORE.findall(rest)
    assert stray == {}


def test_every_page_with_a_table_of_scores_says_by_whose_protocol():
    texts = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
    quoting = {page: ' '.join(text.split()) for page, text in texts.items() if MEASURE.search(text)
               and any(SCORE.search(line) for line in text.splitlines() if line.startswith('|'))}
    assert len(quoting) >= 9
    assert {page: found for page, text in quoting.items() if (found := lacking(text))} == {}
