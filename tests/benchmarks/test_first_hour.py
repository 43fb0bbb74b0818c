import sys

from PIL import Image

from benchmarks import first_hour
from benchmarks.first_hour import Outcome, draw_images, ending, lightly_command, seconds, table, watch
from mm_graft.image_folders import list_images


def test_a_process_is_watched_in_a_terminal_until_it_ends(tmp_path):
    program = ("import sys, time; from tqdm import tqdm; assert sys.stderr.isatty(); print('one'); "
               "[time.sleep(0.01) for _ in tqdm(range(3), mininterval=0)]; sys.exit(3)")
    found = watch([sys.executable, '-c', program], tmp_path)
    assert found.status == 3
    assert 0 < found.first < found.total
    assert 0 < found.computed < 60
    assert found.text.startswith('one')
    assert watch([sys.executable, '-c', 'print(1)'], tmp_path).first is None


def test_what_a_call_ended_with_is_said():
    assert ending(Outcome(0, 1.0, 2.0, 1.5, 3, 'ValueError: not the end')) == 'finished'
    assert ending(Outcome(1, None, 2.0, 1.5, 3, 'x\nValueError: why\n')) == 'ended with status 1: `ValueError: why`'
    assert ending(Outcome(None, None, 2.0, 1.5, 3, '')) == 'ended with status None'
    assert (seconds(None), seconds(1.6)) == ('never', '2')


def test_the_folder_has_what_real_ones_have(tmp_path):
    draw_images(tmp_path / 'clean', 3, odd=False)
    draw_images(tmp_path / 'odd', 3, odd=True)
    assert len(list_images(tmp_path / 'clean').names) == 3
    names = set(list_images(tmp_path / 'odd').names)
    assert {'web.webp', 'deep.tif', 'cut.jpg', 'grün 日本.png'} <= names
    assert not any('hidden' in name for name in names)
    assert Image.open(tmp_path / 'odd' / 'cmyk.jpg').mode == 'CMYK'


def test_both_get_the_same_images_epochs_and_batch(tmp_path):
    words = lightly_command('/env/bin/python', tmp_path, tmp_path / 'out', 7, 16)
    assert words[0] == '/env/bin/lightly-train'
    assert {f'data={tmp_path}', 'epochs=7', 'batch_size=16'} <= set(words)
    assert first_hour.start_command(tmp_path, tmp_path / 'out', 0.5)[-5:] == [
        str(tmp_path), '--minutes', '0.5', '--out', str(tmp_path / 'out')]


def test_the_table_is_markdown():
    assert table([('a', 'b', 'c')], ('1', '2')).splitlines() == [
        '| | mm_graft 1 | lightly-train 2 |', '|---|---|---|', '| a | b | c |']
