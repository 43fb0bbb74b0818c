"""Segmentation of CamVid from random weights, MAE, a longer MAE, the graft and the refiner on MAE, seed by seed.

Each seed trains its own encoders on the training images, without their masks, then UperNet on each, with the same
settings, and scores the test images by mIoU after the last iteration. What is finished is not repeated, what was
interrupted resumes.
Results: OUT/results.json; python -m experiments.camvid.report OUT takes them into docs/segmentation.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.camvid.report import SHOWN, TITLES, read_scores, write_results
from experiments.pages import commit
from experiments.training import ROOT, TOOLS, last_epoch, run, run_training, train_command
from mm_graft.commands.running import guarded
from mm_graft.evaluation.report import write_json

CONFIGS = Path(__file__).with_name('configs')
UPERNET = CONFIGS / 'vit-tiny_upernet_camvid-half.py'
# the trainings that lead to each encoder: config and epochs, each on the one before
ENCODERS = {
    'random': (),
    'mae': (('mae', 100), ),
    'graft': (('mae', 100), ('graft', 30)),
    'refined': (('mae', 100), ('heads', 10), ('refined', 20)),
    'mae_images': (('mae', 130), ),  # as many images as the graft and the refiner
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--encoders', nargs='+', choices=list(ENCODERS), default=list(ENCODERS))
    parser.add_argument('--iterations', type=int, default=300, help='of UperNet')
    parser.add_argument('--data', type=Path, default=Path('data/camvid'))
    parser.add_argument('--out', type=Path, default=Path('work_dirs/camvid'))
    return parser.parse_args()


def on(data: Path, *parts: str) -> list[str]:
    """Overrides for CamVid at another place."""
    return [f'{part}_dataloader.dataset.data_root={data}' for part in parts]


def train(config: Path, folder: Path, seed: int, length: int, options: Sequence[str]) -> None:
    """Train a config in a folder, beside which its log is kept; the commit is noted in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'commit.txt').write_text(commit(ROOT))
    run_training(train_command(config, folder, seed, options), folder.with_suffix('.log'), folder.name, length)


def encoder(name: str, out: Path, seed: int, data: Path) -> Path | None:
    """Train what leads to an encoder, unless that has been done; its checkpoint, None for random weights."""
    checkpoint = None
    for config, epochs in ENCODERS[name]:
        folder = out / f'{config}{epochs}_{seed}'
        if last_epoch(folder) < epochs:
            options = [f'train_cfg.max_epochs={epochs}', 'default_hooks.checkpoint.interval=10', *on(data, 'train')]
            options += [f'default_hooks.init.checkpoint={checkpoint}'] if checkpoint else []
            train(CONFIGS / f'{config}_camvid-half.py', folder, seed, epochs, options)
        checkpoint = folder / f'epoch_{epochs}.pth'
    return checkpoint


def segment(name: str, start: Path | None, out: Path, seed: int, iterations: int, data: Path) -> dict[str, float]:
    """UperNet's scores from an encoder, trained unless that has been done."""
    folder = out / f'upernet_{name}_{seed}'
    if read_scores(folder) is None:
        options = [f'max_iters={iterations}', f'default_hooks.init.checkpoint={start}',
                   *on(data, 'train', 'val', 'test')]
        train(UPERNET, folder, seed, iterations, options)
    return read_scores(folder)


def draw(out: Path, seed: int, iterations: int, data: Path, names: Sequence[str]) -> None:
    """Test images, their truth, and what each UperNet of a seed says."""
    first, *others = ([str(UPERNET), str(out / f'upernet_{name}_{seed}' / f'iter_{iterations}.pth')] for name in names)
    also = [word for other in others for word in ('--also', *other)]
    run([
        sys.executable, str(TOOLS / 'analyze.py'), 'segmentation', *first, *also,
        '--names', *(TITLES[name] for name in names), '--indices', *map(str, SHOWN), '--out', str(out),
        '--cfg-options', *on(data, 'test')])


def main() -> None:
    args = parse_args()
    with guarded():
        if not any((args.data / 'img_dir' / 'train').glob('*.jpg')):
            raise FileNotFoundError(f'{args.data}/img_dir/train holds no images; docs/segmentation.md says where '
                                    'CamVid is and how it is laid out')
        for seed in args.seeds:
            for name in args.encoders:
                start = encoder(name, args.out, seed, args.data)
                found = segment(name, start, args.out, seed, args.iterations, args.data)
                write_json(args.out / f'scores_{name}_{seed}.json', found)
                write_results(args.out)
        draw(args.out, args.seeds[0], args.iterations, args.data, args.encoders)


if __name__ == '__main__':
    main()
