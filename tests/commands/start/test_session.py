import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mm_graft.commands.start import check
from mm_graft.commands.start.session import changed_images, duration, earlier_call, names_of
from mm_graft.image_folders import ImageList


@pytest.fixture
def images(tmp_path):
    """Pictures of two classes told apart by color, with what real folders have beside them."""
    folder = tmp_path / 'own'
    rng = np.random.default_rng(0)
    for label, name in enumerate(('red', 'grün')):
        (folder / name).mkdir(parents=True)
        for index in range(12):
            pixels = rng.integers(0, 120, (40, 52, 3))
            pixels[..., label] += 120
            ending = ('jpg', 'webp', 'png')[index % 3]
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f'{index} ü.{ending}')
    Image.fromarray(rng.integers(0, 255, (40, 40), np.uint8)).convert('P').save(folder / 'palette.png')
    Image.fromarray(rng.integers(0, 255, (40, 40, 4), np.uint8), 'CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(rng.integers(0, 60000, (40, 40)).astype(np.uint16)).save(folder / 'deep.png')
    (folder / 'broken.jpg').write_bytes(b'not a jpeg')
    (folder / '.hidden').mkdir()
    (folder / 'notes.txt').write_text('x')
    return folder


def start(*args):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'mm_graft', 'start', *map(str, args)],
                          capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


def test_a_dry_run_prints_the_plan_and_writes_its_configs(images, tmp_path):
    status, text = start(images, '--out', tmp_path / 'out', '--dry-run', '--minutes', 1)
    assert status == 0, text
    for part in ('28 images;', '1 hidden', '(.txt 1)', '27 sampled', '1 of 28 sampled cannot be read', 'broken.jpg: no',
                 'deit-tiny', 'expected'):
        assert part in text, part
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['1_mae.py', '2_graft.py', 'start.json']
    (images / 'broken.jpg').unlink()
    status, text = start(images, '--out', tmp_path / 'out', '--dry-run', '--minutes', 1)
    assert status == 0
    assert 'the images are not those of the plan: 28 then, 27 now' in text
    status, text = start(images, '--out', tmp_path / 'out', '--minutes', 2)
    assert status == 1
    assert 'minutes: 1.0 there, 2.0 now' in text


@pytest.mark.slow
def test_a_folder_becomes_an_encoder_and_a_report_and_a_second_call_has_nothing_to_do(images, tmp_path):
    call = (images, '--out', tmp_path / 'out', '--labels', images, '--minutes', 0.05)
    status, text = start(*call)
    assert status == 0, text[-3000:]
    page = (tmp_path / 'out' / 'report.html').read_text()
    for part in ('RankMe', 'LiDAR', 'random weights', 'after mae', 'after graft', 'nearest neighbors', 'Filled in'):
        assert part in page, part
    status, text = start(*call)
    assert status == 0
    assert text.count('finished before') == 2


def test_too_few_images_end_in_one_line(tmp_path):
    (tmp_path / 'few').mkdir()
    Image.new('RGB', (40, 40)).save(tmp_path / 'few' / 'a.jpg')
    status, text = start(tmp_path / 'few', '--out', tmp_path / 'out')
    assert status == 1
    assert 'error: 1 readable images are too few' in text
    assert not (tmp_path / 'out').exists()


def test_the_folder_that_is_not_named_is_checked_before_anything_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('images').mkdir()
    Path('work_dirs').touch()
    with pytest.raises(ValueError, match=r'start_images cannot be written into: .*work_dirs is a file'):
        check(argparse.Namespace(images='images', labels=None, val=None, checkpoint=None, out=None))


def test_images_that_came_or_went_since_the_plan_are_said():
    then = ImageList('folder', ['a', 'b'])
    earlier = json.loads(json.dumps({'listed': names_of(then)}))
    assert changed_images(earlier, then) is None
    assert changed_images({}, then) is None  # planned by a version that did not note them
    assert '2 then, 3 now' in changed_images(earlier, ImageList('folder', ['a', 'b', 'c']))
    assert '2 then, 2 now' in changed_images(earlier, ImageList('folder', ['a', 'c']))


def test_another_call_into_the_same_folder_is_named(tmp_path):
    args = argparse.Namespace(images='a', checkpoint=None, minutes=None, device=None, seed=0, tracker=None, without=[])
    assert earlier_call(args, tmp_path) is None
    (tmp_path / 'start.json').write_text(json.dumps({**vars(args), 'plan': {}}))
    assert earlier_call(args, tmp_path)['images'] == 'a'
    (tmp_path / 'start.json').write_text(json.dumps({name: value for name, value in vars(args).items()
                                                     if name != 'without'}))  # by a call before there was this flag
    assert earlier_call(args, tmp_path)['images'] == 'a'
    args.without = ['views']
    with pytest.raises(ValueError, match=r"without: None there, \['views'\] now"):
        earlier_call(args, tmp_path)
    args.seed, args.without = 3, []
    with pytest.raises(ValueError, match='seed: 0 there, 3 now'):
        earlier_call(args, tmp_path)


def test_times_are_rounded_for_people():
    assert [duration(seconds) for seconds in (45, 130, 3 * 3600)] == ['45 seconds', '2 minutes', '3 hours']
