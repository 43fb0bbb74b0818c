"""The table of CamVid in docs/segmentation.md out of docs/results/camvid.json.

python -m experiments.camvid.report [OUT] first puts the results and the picture of OUT there.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.page import put
from experiments.pages import facts, mean_and_spread, provenance
from experiments.training import ROOT, last_logged
from mm_graft.evaluation.report import write_json

DOCS = ROOT / 'docs'
RESULTS = 'results/camvid.json'
PICTURE = 'images/camvid.png'
SHOWN = (37, 14, 20, 60)  # of the test images
TITLES = {'random': 'random weights', 'mae': 'MAE', 'graft': 'graft', 'refined': 'refined',
          'mae_images': 'MAE, longer: equal images'}
SCORES = {'mIoU': 'mIoU', 'mAcc': 'mean accuracy of the classes', 'aAcc': 'accuracy of the pixels'}


def read_scores(folder: Path) -> dict[str, float] | None:
    """The last scores that a run of UperNet has logged, in percent; None if it has not been scored."""
    row = last_logged(folder, 'mIoU')
    return row and {name: round(row[name], 2) for name in SCORES}


def write_results(out: Path) -> None:
    """Collect the scores of OUT into OUT/results.json, by encoder and seed."""
    rows = {name: {path.stem.removeprefix(f'scores_{name}_'): json.loads(path.read_text())
                   for path in sorted(out.glob(f'scores_{name}_[0-9]*.json'))} for name in TITLES}
    write_json(out / 'results.json', {
        **provenance(out, 'onedl-mmsegmentation'), 'rows': {name: seeds for name, seeds in rows.items() if seeds}})


def table(results: dict) -> str:
    """Markdown: mean ± standard deviation over the seeds, and mIoU seed by seed."""
    lines = [f'| encoder | seeds | {" | ".join(SCORES.values())} | mIoU, seed by seed |',
             '|---|---:' + '|---:' * len(SCORES) + '|---|']
    for name, seeds in results['rows'].items():
        cells = ' | '.join(mean_and_spread([scores[score] for scores in seeds.values()]) for score in SCORES)
        each = ', '.join(f'{seeds[seed]["mIoU"]:.1f}' for seed in sorted(seeds, key=int))
        lines.append(f'| {TITLES[name]} | {len(seeds)} | {cells} | {each} |')
    return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
    """Take over results, if a folder is given; then the table."""
    for out in map(Path, argv):
        shutil.copy(out / 'results.json', DOCS / RESULTS)
        shutil.copy(out / 'segmentation.png', DOCS / PICTURE)
    results, page = json.loads((DOCS / RESULTS).read_text()), DOCS / 'segmentation.md'
    put(page, 'camvid', table(results))
    put(page, 'camvid-run', facts(results))


if __name__ == '__main__':
    main(sys.argv[1:])
