"""The demo's report: a table on the screen, report.json, report.md and report.png."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from mmengine.config import Config

from experiments.training import last_epoch
from mm_graft.analysis.training_curves import rate_keys, read_scalars

plt.switch_backend('Agg')

CONFIGS = Path(__file__).with_name('configs')
PROTOCOLS = {'knn': 'kNN', 'linear': 'linear', 'fewshot_1': '1 % few-shot'}
COLORS = {'random weights': '#b8b8b8', 'MAE': '#4477aa', 'MoCo v3': '#ccbb44', 'graft': '#228833'}
PACKAGES = ('torch', 'torchvision', 'timm', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'mm_graft')


def images_seen(out: Path) -> dict[str, str]:
    """How many images each method saw, and in which objective."""
    thousands = Config.fromfile(CONFIGS / 'mae.py').train_dataloader.dataset.indices // 1000
    seen = {name: thousands * last_epoch(out / name) for name in ('mae', 'mocov3', 'graft')}
    return {'random weights': 'none', 'MAE': f'{seen["mae"]}k MAE', 'MoCo v3': f'{seen["mocov3"]}k MoCo v3',
            'graft': f'{seen["mae"]}k MAE + {seen["graft"]}k MoCo v3'}


def table(rows: list[dict], seen: dict[str, str]) -> str:
    """The results as a Markdown table."""
    lines = ['| method | images seen | ' + ' | '.join(PROTOCOLS.values()) + ' |',
             '|---|---|' + '---:|' * len(PROTOCOLS)]
    for row in rows:
        values = ' | '.join(f'{row[protocol]:.1f}' for protocol in PROTOCOLS)
        lines.append(f'| {row["method"]} | {seen[row["method"]]} | {values} |')
    return '\n'.join(lines)


def draw(out: Path, rows: list[dict]) -> Path:
    """Losses, learning rates of the graft's stages, and the results, in one picture."""
    plt.rcParams.update({'font.size': 9, 'axes.spines.top': False, 'axes.spines.right': False})
    figure, (mae, contrast, rates, bars) = plt.subplots(
        1, 4, figsize=(14, 3.4), width_ratios=(1, 1, 1, 1.6), constrained_layout=True)
    draw_losses(mae, out, {'mae': 'MAE'}, 'step i: masked image modeling', 'MAE loss')
    draw_losses(contrast, out, {'mocov3': 'MoCo v3', 'graft': 'graft'}, 'step ii: contrast', 'MoCo v3 loss')
    draw_rates(rates, out)
    draw_bars(bars, rows)
    path = out / 'report.png'
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def draw_losses(axes: plt.Axes, out: Path, runs: dict[str, str], title: str, label: str) -> None:
    """Loss of some runs over the steps."""
    for run, method in runs.items():
        scalars = read_scalars(out / run)
        axes.plot([row['step'] for row in scalars], [row['loss'] for row in scalars], color=COLORS[method],
                  label='from scratch' if run == 'mocov3' else 'on MAE' if run == 'graft' else None)
    axes.set(title=title, xlabel='step', ylabel=label)
    if len(runs) > 1:
        axes.legend(frameon=False)


def draw_rates(axes: plt.Axes, out: Path) -> None:
    """Learning rate of every stage of the graft."""
    scalars = read_scalars(out / 'graft')
    for index, key in enumerate(rate_keys(scalars)):
        points = [(row['step'], row[key]) for row in scalars if key in row]
        style = ('-', '--', ':')[index % 3]
        axes.plot(*zip(*points), style, label=key.removesuffix('_lr').replace('stage', 'stage '), linewidth=2)
    axes.set(title='graft: one learning rate a stage', xlabel='step', ylabel='learning rate')
    axes.legend(frameon=False)


def draw_bars(axes: plt.Axes, rows: list[dict]) -> None:
    """The results, grouped by protocol; the axis does not start at 0 and says so by its ticks."""
    width = 0.8 / len(rows)
    for index, row in enumerate(rows):
        places = [place + index * width for place in range(len(PROTOCOLS))]
        bars = axes.bar(places, [row[protocol] for protocol in PROTOCOLS], width, label=row['method'],
                        color=COLORS[row['method']])
        axes.bar_label(bars, fmt='%.0f', fontsize=7, padding=1)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(PROTOCOLS))], PROTOCOLS.values())
    axes.set_ylim(min(row[protocol] for row in rows for protocol in PROTOCOLS) // 10 * 10 - 10, None)
    axes.set(title='10,000 test images', ylabel='correct, %')
    axes.legend(frameon=False, ncols=2, fontsize=7, loc='upper left', bbox_to_anchor=(0, -0.12))


def device_name() -> str:
    """The GPU, or the processor and how many cores were used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads'


def write_report(out: Path, rows: list[dict], seconds: dict[str, float], seed: int) -> None:
    """Write the three files and print the table."""
    total, seen = sum(seconds.values()), images_seen(out)
    report = {
        'rows': rows,
        'seconds': round(total, 1),
        'seconds_by_part': {part: round(value, 1) for part, value in seconds.items()},
        'device': device_name(),
        'versions': {'python': platform.python_version(), **{package: version(package) for package in PACKAGES}},
        'seed': seed,
        'images_seen': seen,
    }
    (out / 'report.json').write_text(json.dumps(report, indent=1) + '\n')
    figure = draw(out, rows)
    text = f"""# mm_graft demo: Fashion-MNIST, ViT of 6 blocks of width 96, seed {seed}

{table(rows, seen)}

Percentage of the 10,000 test images that are right, on frozen features (class token after the final norm). kNN: k = 20
over 10,000 training images; linear: best of a learning-rate grid on held-out training images; 1 % few-shot: logistic
regression on 100 labels, mean of {len(rows[0]['fewshot_1_draws'])} draws. One run on {report['device']},
{total / 60:.1f} minutes (installation not counted). Both MoCo v3 rows see the same number of images in that objective.

![training, learning rates, results]({figure.name})
"""
    (out / 'report.md').write_text(text)
    print('\n' + table(rows, seen))
    print(f'\n{total / 60:.1f} minutes on {report["device"]}; see {out}/report.md, report.json and report.png')
