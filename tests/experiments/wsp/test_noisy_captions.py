import json

import cv2
import numpy as np
import pytest

from experiments.wsp.noisy_captions import FASHION_SYNSETS, noisy_caption, write_noisy_captions
from mm_graft.datasets.hashtags import extract_hashtags, read_synsets


def class_labels(labels, captions):
    return [[label for label in labels.labels_of(extract_hashtags(caption))[0] if label < 10] for caption in captions]


@pytest.mark.parametrize('noise', [0.0, 0.4])
def test_the_stated_share_of_class_tags_is_wrong(tmp_path, noise):
    true = np.arange(3000) % 10
    write_noisy_captions(np.zeros((0, 2, 2), np.uint8), [], tmp_path, noise, 0)
    labels, generator = read_synsets(tmp_path / 'synsets.txt'), np.random.default_rng(0)
    tags = class_labels(labels, [noisy_caption(label, noise, generator) for label in true])
    assert all(len(row) == 1 for row in tags)
    wrong = np.mean([row[0] != label for row, label in zip(tags, true)])
    assert abs(wrong - noise) < 0.03


def test_context_comes_in_frequent_and_rare_tags_half_of_them_unmapped(tmp_path):
    write_noisy_captions(np.zeros((0, 2, 2), np.uint8), [], tmp_path, 0.4, 0)
    labels, generator = read_synsets(tmp_path / 'synsets.txt'), np.random.default_rng(0)
    found, unmapped = zip(*(labels.labels_of(extract_hashtags(noisy_caption(0, 0, generator))) for _ in range(1000)))
    counts = np.bincount([label for row in found for label in row if label >= 10], minlength=20)[10:]
    assert len(labels.names) == 20
    assert counts.max() > 5 * counts[counts > 0].min()
    assert 200 < sum(map(len, unmapped)) < 600


def test_files_hold_the_images_and_one_row_each(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    folder = write_noisy_captions(images, [0, 5, 9], tmp_path / 'tags', 0.0, 0)
    rows = [json.loads(line) for line in (folder / 'captions.jsonl').read_text().splitlines()]
    for row, image in zip(rows, images):
        np.testing.assert_array_equal(cv2.imread(str(folder / row['image']), cv2.IMREAD_GRAYSCALE), image)
    labels = read_synsets(folder / 'synsets.txt')
    assert class_labels(labels, [row['caption'] for row in rows]) == [[0], [5], [9]]
    assert len(FASHION_SYNSETS) == 10


def test_the_seed_determines_the_captions(tmp_path):
    images = np.zeros((20, 2, 2), np.uint8)
    texts = [(write_noisy_captions(images, range(10), tmp_path / str(number), 0.4, seed) / 'captions.jsonl').read_text()
             for number, seed in enumerate((0, 0, 1))]
    assert texts[0] == texts[1] != texts[2]
    with pytest.raises(ValueError, match='noise'):
        write_noisy_captions(images, range(10), tmp_path, 1.0, 0)
