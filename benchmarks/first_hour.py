"""The first run of a new user beside lightly-train's: the same drawn images, this machine, one after the other.

    python -m benchmarks.first_hour --lightly PYTHON    # an interpreter whose environment has lightly-train

Both run in a terminal of their own, so that both draw their bars: first on clean images, then on a folder as people
have them. As many epochs are asked of lightly-train as `mm_graft start` planned. Printed is a table in Markdown.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64
BAR = re.compile(rb'\b[1-9]\d*/\d+ \[')  # tqdm's, after a step
FIGURES = re.compile(r'<figure>')
DEADLINE = 1500


@dataclass(frozen=True)
class Outcome:
    """What became of one call.

    Attributes:
        status: exit status of the process; None if it was stopped at the deadline.
        first: seconds until a bar showed its first step, None if none did.
        total: seconds.
        computed: seconds of the cores, of the process and all that it started.
        lines: printed, those that a bar overwrites not counted.
        text: all that was printed.
    """

    status: int | None
    first: float | None
    total: float
    computed: float
    lines: int
    text: str


def draw_images(folder: Path, count: int, odd: bool) -> None:
    """Colored noise of 64 to 90 pixels; with ``odd`` also what real folders have beside plain photographs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        small.resize((90, SIDE), Image.Resampling.BICUBIC).save(folder / f'{index:03d}.jpg')
    if not odd:
        return
    image = Image.open(folder / '000.jpg')
    image.save(folder / 'web.webp')
    image.convert('P').save(folder / 'palette.png')
    image.convert('CMYK').save(folder / 'cmyk.jpg')
    image.convert('LA').save(folder / 'transparent.png')
    image.save(folder / 'grün 日本.png')
    Image.fromarray(rng.integers(0, 65535, (SIDE, 80)).astype(np.uint16)).save(folder / 'deep.tif')
    (folder / 'empty.jpg').write_bytes(b'')
    (folder / 'cut.jpg').write_bytes((folder / '001.jpg').read_bytes()[:700])
    (folder / '._002.jpg').write_bytes(b'Mac OS X')
    (folder / '.hidden').mkdir()
    (folder / '.hidden' / 'thumbnail.jpg').write_bytes(b'x')


def watch(command: list[str], folder: Path) -> Outcome:
    """Run a command in a terminal and look when its first step is seen."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 40, 160, 0, 0))  # a bar needs a width
    start, before, first, content = time.perf_counter(), computed_by_children(), None, b''
    environment = {**os.environ, 'LIGHTLY_TRAIN_POSTHOG_DISABLED': '1'}
    process = subprocess.Popen(command, cwd=folder, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL,
                               env=environment, start_new_session=True)
    os.close(theirs)
    while True:
        try:
            part = os.read(ours, 2**16)
        except OSError:  # the terminal is closed when the process has ended
            break
        if not part or time.perf_counter() - start > DEADLINE:
            break
        content += part
        if first is None and BAR.search(content):
            first = time.perf_counter() - start
    os.close(ours)
    try:
        status = process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=20)
        status = None
    text = content.decode(errors='replace')
    return Outcome(status, first, time.perf_counter() - start, computed_by_children() - before,
                   len(text.split('\n')), text)


def computed_by_children() -> float:
    """Seconds of the cores that ended processes below this one have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start_command(images: Path, out: Path, minutes: float) -> list[str]:
    """Ours."""
    return [sys.executable, '-m', 'mm_graft', 'start', str(images), '--minutes', str(minutes),
            '--out', str(out)]


def lightly_command(python: str, images: Path, out: Path, epochs: int, batch: int) -> list[str]:
    """Theirs, fitted to the size of our plan; by default it trains at 224 pixels with batches of 128."""
    program = str(Path(python).with_name('lightly-train'))
    return [program, 'pretrain', f'out={out}', f'data={images}', 'model=timm/vit_tiny_patch16_224', 'method=simclr',
            f'epochs={epochs}', f'batch_size={batch}', 'num_workers=2', 'accelerator=cpu',
            f'transform_args={{"image_size":[{SIDE},{SIDE}]}}', f'model_args={{"img_size":{SIDE},"patch_size":8}}']


def seconds(value: float | None) -> str:
    """Rounded, or that it never came."""
    return 'never' if value is None else f'{value:.0f}'


def ending(outcome: Outcome) -> str:
    """How a call ended."""
    lines = [line.strip() for line in outcome.text.splitlines()]
    errors = [line for line in lines if re.match(r'\S*(Error|Exception)\b.*:', line)]
    if outcome.status == 0:
        return 'finished'
    return f'ended with status {outcome.status}' + (f': `{errors[-1][:90]}`' if errors else '')


def table(rows: list[tuple[str, str, str]], versions: tuple[str, str]) -> str:
    """Markdown."""
    lines = [f'| | mm_graft {versions[0]} | lightly-train {versions[1]} |', '|---|---|---|']
    return '\n'.join(lines + [f'| {" | ".join(row)} |' for row in rows])


def compare(lightly: str, count: int, minutes: float, folder: Path) -> str:
    """Run all four, one after the other, and say what came of them."""
    found = {}
    for kind, odd in (('clean', False), ('odd', True)):
        draw_images(folder / kind, count, odd)
        load = os.getloadavg()[0]
        ours = watch(start_command(folder / kind, folder / f'{kind}_ours', minutes), folder)
        plan = json.loads((folder / f'{kind}_ours' / 'start.json').read_text())['plan']
        epochs = sum(stage['epochs'] for stage in plan['stages'])
        theirs = watch(lightly_command(lightly, folder / kind, folder / f'{kind}_theirs', epochs, plan['batch_size']),
                       folder)
        found[kind] = ours, theirs, epochs, load, os.getloadavg()[0]
        for name, outcome in (('ours', ours), ('theirs', theirs)):
            (folder / f'{kind}_{name}.log').write_text(outcome.text)
    page = folder / 'clean_ours' / 'report.html'
    drawn = len(FIGURES.findall(page.read_text())) if page.is_file() else 0
    version = subprocess.run([lightly, '-c', 'import lightly_train; print(lightly_train.__version__)'],
                             capture_output=True, text=True, check=True, timeout=300).stdout.split()[-1]
    ours, theirs, epochs, before, after = found['clean']
    odd_ours, odd_theirs, odd_epochs, odd_before, odd_after = found['odd']
    from mm_graft.version import __version__
    rows = [
        ('commands', '1', '1'),
        ('settings given beside images and output', '1 (`--minutes`)', '8, to fit this machine and the same size'),
        (f'seconds to the first step that is shown, {count} clean images', seconds(ours.first), seconds(theirs.first)),
        (f'seconds in all, {epochs} epochs', seconds(ours.total), seconds(theirs.total)),
        ('of it, seconds that the cores computed', seconds(ours.computed), seconds(theirs.computed)),
        ('how it ended', ending(ours), ending(theirs)),
        ('lines printed', str(ours.lines), str(theirs.lines)),
        ('drawn', f'a page with {drawn} figures', 'scalars for TensorBoard'),
        ('odd images (webp, palette, CMYK, transparent, 16 bits, unicode, empty, cut, hidden)', ending(odd_ours),
         ending(odd_theirs)),
        (f'seconds in all on them, {odd_epochs} epochs', seconds(odd_ours.total), seconds(odd_theirs.total)),
        ('of it, seconds that the cores computed there', seconds(odd_ours.computed), seconds(odd_theirs.computed)),
        ('load of the machine (1 minute), before and after', f'{before:.1f}, {after:.1f}',
         f'{odd_before:.1f}, {odd_after:.1f} (second folder)')]
    return table(rows, (__version__, version))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lightly', required=True, help='Python of an environment with lightly-train')
    parser.add_argument('--images', type=int, default=100, help='drawn images')
    parser.add_argument('--minutes', type=float, default=0.2, help='for ours; theirs gets as many epochs')
    parser.add_argument('--keep', type=Path, help='folder for what both write (default: removed afterwards)')
    args = parser.parse_args()
    place = args.keep or Path(tempfile.mkdtemp())
    place.mkdir(parents=True, exist_ok=True)
    print(compare(args.lightly, args.images, args.minutes, place.resolve()))
    if args.keep is None:
        shutil.rmtree(place)
