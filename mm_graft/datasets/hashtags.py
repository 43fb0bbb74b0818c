"""From captions to labels: hashtags, matched with a vocabulary or WordNet.

Weakly supervised pre-training reads its labels off captions (Singh et al. 2023, arXiv 2303.13496, §3): the hashtags are
taken out, mapped to WordNet synsets, and each synset is one label.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mm_graft.files import read_small_text

# a letter must be in it (`#1` is a number); no hashtag begins inside a word, a URL or an HTML entity (`&#39;`)
HASHTAG = re.compile(r'(?<![\w&/])#(\w*[^\W\d_]\w*)')


def extract_hashtags(text: str) -> list[str]:
    """Hashtags of a text without their #, in order, each once; full-width and upper-case forms become one."""
    return list(dict.fromkeys(HASHTAG.findall(unicodedata.normalize('NFKC', text).casefold())))


def normalize_tag(name: str) -> str:
    """A name as it would stand behind a #: ``'Golden Retriever'`` and ``'#goldenRetriever'`` → ``goldenretriever``."""
    return re.sub(r'[\W_]+', '', unicodedata.normalize('NFKC', name).casefold())


@dataclass(frozen=True)
class LabelSet:
    """Labels, and the tags that stand for them."""

    names: tuple[str, ...]  #: name of every label; its place is the label's number
    by_tag: dict[str, tuple[int, ...]]  #: normalized tag → numbers of the labels that it means

    def labels_of(self, tags: Iterable[str]) -> tuple[list[int], list[str]]:
        """Numbers of the labels that tags mean, each once and ascending, and the tags that mean none."""
        labels, unmapped = set(), []
        for tag in tags:
            meant = self.by_tag.get(normalize_tag(tag), ())
            labels.update(meant)
            if not meant:
                unmapped.append(tag)
        return sorted(labels), unmapped


def read_vocabulary(path: str | Path) -> LabelSet:
    """A label for each line of a file that holds one tag a line."""
    return _label_set(path, [(line, [line]) for line in _lines(path)], shared=False)


def read_synsets(path: str | Path) -> LabelSet:
    """A label for each WordNet synset of a file with lines such as ``n02099601 golden retriever, goldie``.

    The first word is the synset's name, the words after it, between commas, are its lemmas: what ImageNet's
    ``LOC_synset_mapping.txt`` and ``words.txt`` look like. A tag that is a lemma of several synsets means all of them.
    """
    rows = []
    for line in _lines(path):
        synset, _, lemmas = line.replace('\t', ' ').partition(' ')
        rows.append((synset, [lemma for lemma in lemmas.split(',') if normalize_tag(lemma)]))
    return _label_set(path, rows, shared=True)


def _lines(path: str | Path) -> list[str]:
    return [line.strip() for line in read_small_text(path).splitlines() if line.strip()]


def _label_set(path: str | Path, rows: list[tuple[str, list[str]]], shared: bool) -> LabelSet:
    by_tag: dict[str, tuple[int, ...]] = {}
    for number, (name, tags) in enumerate(rows):
        if not any(map(normalize_tag, tags)):
            raise ValueError(f'{path}: {name!r} has no tag that means it; write its words behind it, between commas')
        for tag in {normalize_tag(tag) for tag in tags}:
            if tag in by_tag and not shared:
                raise ValueError(f'{path}: duplicate tag {tag!r}; keep one of its lines')
            by_tag[tag] = (*by_tag.get(tag, ()), number)
    names = tuple(name for name, _ in rows)
    if len(set(names)) < len(names) or not names:
        twice = next((name for name in names if names.count(name) > 1), None)
        raise ValueError(f'{path}: ' + (f'duplicate label {twice!r}' if twice else 'there is no label in it'))
    return LabelSet(names, by_tag)
