"""Mask R-CNN for CamVid's cars and pedestrians, from MAE and from random weights: a table and a picture.

Makes instances of CamVid's label maps, trains MAE on the training images, then for each seed a detector from MAE's
encoder and one from random weights, and scores them on the test images by COCO's metric. What is finished is not
repeated, an interrupted training resumes. Results: OUT/report.json, OUT/table.md, OUT/detection.png.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from experiments.training import TOOLS, last_epoch, last_logged, run, run_training, train_command
from mm_graft.commands.running import guarded
from mm_graft.datasets.masks_to_coco import masks_to_coco
from mm_graft.evaluation.report import write_json

HERE = Path(__file__).parent
MAE = HERE.parent / 'camvid' / 'configs' / 'mae_camvid-half.py'
DETECTOR = HERE / 'configs' / 'mask-rcnn_camvid-half.py'
CLASSES = {'car': 8, 'pedestrian': 9}  # values in CamVid's label maps
MIN_AREA = 32  # pixels, of 240 × 180
SHOWN = (14, 37, 100, 150)  # of the test images
STARTS = {'random': 'random weights', 'mae': 'MAE on CamVid'}
SCORES = {'bbox_mAP': 'box AP', 'bbox_mAP_50': 'box AP50', 'segm_mAP': 'mask AP', 'segm_mAP_50': 'mask AP50',
          'car_precision': 'mask AP, cars', 'pedestrian_precision': 'mask AP, pedestrians'}  # the last two end on masks


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1], help='of the detectors; MAE has seed 0')
    parser.add_argument('--epochs', type=int, nargs=2, metavar=('MAE', 'DETECTOR'), default=(100, 6),
                        help='for a quick trial: 2 2')
    parser.add_argument('--data', type=Path, default=Path('data/camvid'))
    parser.add_argument('--out', type=Path, default=Path('work_dirs/camvid_detection'))
    return parser.parse_args()


def prepare(data: Path) -> None:
    """Write ``instances_{train,test}.json`` beside CamVid's images, unless they are there.

    Raises:
        FileNotFoundError: there is no CamVid.
    """
    for split in ('train', 'test'):
        path = data / f'instances_{split}.json'
        maps = sorted((data / 'ann_dir' / split).glob('*.png'))
        if not maps:
            raise FileNotFoundError(f'{data}/ann_dir/{split} holds no label maps; docs/segmentation.md says where '
                                    'CamVid is and how it is laid out')
        if not path.is_file():
            pairs = {f'{label_map.stem}.jpg': label_map for label_map in maps}
            write_json(path, masks_to_coco(pairs, CLASSES, MIN_AREA))


def on(data: Path) -> list[str]:
    """Overrides for CamVid at another place."""
    words = [f'train_dataloader.dataset.data_root={data}']
    words += [f'{part}_dataloader.dataset.data_root={data}' for part in ('val', 'test')]
    return words + [f'{part}_evaluator.ann_file={data / "instances_test.json"}' for part in ('val', 'test')]


def scores(folder: Path) -> dict[str, float] | None:
    """The last scores that a run has logged, in percent; None if it has not been scored."""
    row = last_logged(folder, 'coco/segm_mAP')
    return row and {name: 100 * row[f'coco/{name}'] for name in SCORES}


def train_mae(out: Path, epochs: int, data: Path) -> Path:
    """MAE's checkpoint."""
    folder = out / 'mae'
    if last_epoch(folder) < epochs:
        out.mkdir(parents=True, exist_ok=True)
        options = [f'train_cfg.max_epochs={epochs}', f'default_hooks.checkpoint.interval={min(epochs, 20)}',
                   on(data)[0]]
        run_training(train_command(MAE, folder, 0, options), folder.with_suffix('.log'), 'MAE', epochs)
    return folder / f'epoch_{epochs}.pth'


def train_detector(start: str, mae: Path, out: Path, seed: int, epochs: int, data: Path) -> dict[str, float]:
    """Its scores."""
    folder = out / f'from_{start}_{seed}'
    if scores(folder) is None:
        options = [f'train_cfg.max_epochs={epochs}', f'train_cfg.val_interval={epochs}', *on(data),
                   f'default_hooks.init.checkpoint={mae if start == "mae" else None}']
        run_training(train_command(DETECTOR, folder, seed, options), folder.with_suffix('.log'), f'{start} {seed}',
                     epochs)
    return scores(folder)


def table(rows: Sequence[Mapping]) -> str:
    """Markdown, a line for each seed and start."""
    lines = [f'| encoder | seed | {" | ".join(SCORES.values())} |', '|---|---' + '|---:' * len(SCORES) + '|']
    for row in rows:
        cells = ' | '.join(f'{row["scores"][name]:.1f}' for name in SCORES)
        lines.append(f'| {STARTS[row["start"]]} | {row["seed"]} | {cells} |')
    return '\n'.join(lines) + '\n'


def draw(out: Path, seed: int, epochs: int, data: Path) -> None:
    """The picture of both detectors of a seed."""
    first, second = ([str(DETECTOR), str(out / f'from_{start}_{seed}' / f'epoch_{epochs}.pth')] for start in STARTS)
    run([
        sys.executable, str(TOOLS / 'analyze.py'), 'detection', *first, '--also', *second,
        '--names', *(f'from {title}' for title in STARTS.values()), '--indices', *map(str, SHOWN), '--out', str(out),
        '--cfg-options', on(data)[2]])


def main() -> None:
    args = parse_args()
    with guarded():
        if find_spec('mmdet') is None:
            raise ModuleNotFoundError('mmdetection is not installed; run make setup-detection, and this with '
                                      '.venv-detection/bin/python')
        prepare(args.data)
        mae = train_mae(args.out, args.epochs[0], args.data)
        rows = []
        for seed in args.seeds:
            for start in STARTS:
                found = train_detector(start, mae, args.out, seed, args.epochs[1], args.data)
                rows.append({'start': start, 'seed': seed, 'scores': found})
                write_json(args.out / 'report.json', rows)
                (args.out / 'table.md').write_text(table(rows))
        draw(args.out, args.seeds[0], args.epochs[1], args.data)
        print((args.out / 'table.md').read_text())


if __name__ == '__main__':
    main()
