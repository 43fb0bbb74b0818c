"""Draw the idea of each method: docs/images/method_*.svg. Run: python docs/figures/methods.py."""

from pathlib import Path

import matplotlib

matplotlib.use('svg')
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

IMAGES = Path(__file__).resolve().parents[1] / 'images'
BLUE, GREEN, GRAY, RED, YELLOW = '#4477aa', '#228833', '#bbbbbb', '#cc6677', '#ccbb44'
PALE = {BLUE: '#b8cce0', GREEN: '#b5dbb9'}


def canvas(width: float, height: float) -> Axes:
    """Axes in which one unit is as wide as high, without a frame."""
    _, axes = plt.subplots(figsize=(width, height))
    axes.set(xlim=(0, width * 10), ylim=(0, height * 10), aspect='equal')
    axes.axis('off')
    return axes


def box(axes: Axes, x: float, y: float, size: tuple[float, float], color: str, text: str = '',
        ink: str = 'black') -> None:
    """A rectangle with a text in its middle."""
    axes.add_patch(Rectangle((x, y), *size, facecolor=color, edgecolor='white', linewidth=1.5))
    axes.text(x + size[0] / 2, y + size[1] / 2, text, ha='center', va='center', fontsize=8, color=ink)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str = '#555555') -> None:
    """An arrow from one point to another."""
    axes.annotate('', end, start, arrowprops=dict(arrowstyle='->', color=color, linewidth=1.2))


def encoder(axes: Axes, x: float, y: float, colors: list[str]) -> float:
    """A row of blocks from left to right; returns where it ends."""
    for index, color in enumerate(colors):
        box(axes, x + 3 * index, y, (3, 5), color, str(index + 1), 'white' if color in PALE else 'black')
    return x + 3 * len(colors)


def patches(axes: Axes, x: float, y: float, grid: np.ndarray, side: float, cmap: str = 'Blues') -> None:
    """A square of patches; NaN is hidden."""
    rows, columns = grid.shape
    colors = plt.get_cmap(cmap)(0.2 + 0.6 * np.nan_to_num(grid))
    for row in range(rows):
        for column in range(columns):
            color = '#eeeeee' if np.isnan(grid[row, column]) else colors[row, column]
            size = side / columns
            axes.add_patch(Rectangle((x + column * size, y + (rows - 1 - row) * size), size, size, facecolor=color,
                                     edgecolor='white', linewidth=0.6))


def save(axes: Axes, name: str) -> None:
    """Write a figure whose bytes depend on what it shows alone."""
    axes.figure.savefig(IMAGES / f'method_{name}.svg', bbox_inches='tight', metadata={'Date': None})
    plt.close(axes.figure)


def graft() -> None:
    """MAE first, MoCo v3 on top with small rates below."""
    axes = canvas(8, 2.6)
    for y, title, colors, stem, task in (
            (17, 'i   MAE', [BLUE] * 12, BLUE, 'decoder: the hidden patches'),
            (4, 'ii  MoCo v3', [PALE[GREEN]] * 8 + [GREEN] * 4, GRAY, 'projector, predictor: two views agree')):
        axes.text(0, y + 2.5, title, va='center', fontsize=10)
        box(axes, 13, y, (5, 5), stem, 'stem', 'white' if stem == BLUE else 'black')
        end = encoder(axes, 18.5, y, colors)
        arrow(axes, (end, y + 2.5), (end + 4, y + 2.5))
        axes.text(end + 5, y + 2.5, task, va='center', fontsize=8)
    for x, text in ((15.5, 'frozen'), (30.5, 'learning rate × 0.1'), (48.5, '× 1')):
        axes.text(x, 2, text, ha='center', va='center', fontsize=8)
    arrow(axes, (36, 16), (36, 10))
    axes.text(37, 13, 'weights', va='center', fontsize=8)
    save(axes, 'graft')


def conmim(rng: np.random.Generator) -> None:
    """A hidden patch has to find itself among all patches that the teacher sees."""
    axes = canvas(8, 3)
    image = rng.random((4, 4))
    hidden = np.where(rng.permutation(16).reshape(4, 4) < 12, np.nan, image)
    for y, grid, name, color in ((17, hidden, 'student', BLUE), (3, image, 'teacher: moving average', GRAY)):
        patches(axes, 0, y, grid, 10)
        arrow(axes, (11, y + 5), (15, y + 5))
        box(axes, 15, y + 2, (20, 6), color, name, 'white' if color == BLUE else 'black')
        arrow(axes, (35, y + 5), (39, y + 5))
        patches(axes, 40, y, image, 10, 'Greens' if color == GRAY else 'Blues')
    axes.add_patch(Rectangle((42.5, 22), 2.5, 2.5, fill=False, edgecolor=RED, linewidth=2))
    for row in range(4):
        for column in range(4):
            own = (row, column) == (1, 1)
            x, y = 41.2 + 2.5 * column, 11.8 - 2.5 * row
            color, width, order = (RED, 2, 3) if own else (GRAY, 0.5, 0)
            axes.plot([43.7, x], [22, y], color=color, linewidth=width, zorder=order)
    axes.text(53, 22, 'a hidden patch …', va='center', fontsize=9, color=RED)
    axes.text(53, 8, '… finds itself among all\npatches of the same image', va='center', fontsize=9)
    axes.text(0, 28.3, 'weak view, 75 % hidden', fontsize=8)
    axes.text(0, 0.7, 'strong view, whole', fontsize=8)
    save(axes, 'conmim')


def localmim(rng: np.random.Generator) -> None:
    """Low blocks reconstruct fine gradients, high blocks coarse ones."""
    axes = canvas(8, 2.7)
    axes.text(0, 4.5, 'visible\npatches', va='center', fontsize=8)
    encoder(axes, 10, 2, [BLUE] * 12)
    for block, scale, text in ((2, 16, '56 × 56'), (4, 8, '28 × 28'), (10, 4, '14 × 14'), (12, 2, '7 × 7')):
        x = 10 + 3 * block - 1.5
        left = {2: 6, 4: 19, 10: 34, 12: 47}[block]
        arrow(axes, (x, 7), (left + 5, 11))
        patches(axes, left, 12, rng.random((scale, scale)), 10, 'Oranges')
        axes.text(left + 5, 23.5, text, ha='center', fontsize=8)
    axes.text(59, 17, 'gradients (HOG), fine to coarse,\neach from a decoder of its own', va='center', fontsize=8)
    save(axes, 'localmim')


def weak_supervision() -> None:
    """Hashtags as soft targets on top of MAE."""
    axes = canvas(8, 1.8)
    axes.text(0, 14, '“Rex on the beach #dog #sea”', fontsize=9, va='center')
    patches(axes, 5, 1, np.linspace(0, 1, 16).reshape(4, 4), 9)
    arrow(axes, (15, 5.5), (19, 5.5))
    end = encoder(axes, 20, 3, [PALE[GREEN]] * 8 + [GREEN] * 4)
    arrow(axes, (end, 5.5), (end + 4, 5.5))
    for index, (tag, share) in enumerate((('dog', 8), ('sea', 8), ('cat', 0.6), ('sun', 0.6))):
        box(axes, end + 5 + 4.5 * index, 3, (3.5, share), YELLOW if share > 1 else GRAY)
        axes.text(end + 6.7 + 4.5 * index, 1, tag, ha='center', fontsize=8)
    axes.text(end + 5, 13, '½ each: soft targets', fontsize=8, va='center')
    axes.text(38, 10, 'from MAE; rates by stage if grafted', fontsize=8, ha='center', va='center')
    save(axes, 'weak_supervision')


if __name__ == '__main__':
    plt.rcParams['svg.hashsalt'] = 'mm_graft'
    graft()
    conmim(np.random.default_rng(3))
    localmim(np.random.default_rng(0))
    weak_supervision()
