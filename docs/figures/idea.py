"""Draw the idea on one ViT: docs/images/idea.png. Run: python docs/figures/idea.py."""

from pathlib import Path

import matplotlib

matplotlib.use('agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

BLOCKS, STAGES = 12, 3
LOWER, UPPER, INK, SOFT, LINE = '#4477aa', '#228833', '#1c2026', '#5b6470', '#dcd9d2'
RATES = (0.1, 0.1, 1.0)
FREEZE = [0.5 + 0.5 * (index / BLOCKS) ** 3 for index in range(BLOCKS + 1)]


def column(axes: Axes, x: float, width: float, title: str, code: str) -> None:
    """A frame with a heading above and the setting below."""
    axes.add_patch(FancyBboxPatch((x, 0), width, BLOCKS, boxstyle='round,pad=0.12', facecolor='white', edgecolor=LINE))
    axes.text(x + width / 2, BLOCKS + 0.75, title, ha='center', fontsize=11, weight='bold', color=INK)
    axes.text(x + width / 2, -1.2, code, ha='center', fontsize=7.5, family='monospace', color=SOFT)


def color(block: int) -> str:
    """Of a block, by what trains it."""
    return LOWER if block < BLOCKS * 2 // 3 else UPPER


def draw(axes: Axes) -> None:
    """Five columns: the encoder, and what is chosen for its layers."""
    axes.set(xlim=(-0.4, 19.6), ylim=(-1.6, BLOCKS + 1.6))
    axes.axis('off')
    axes.text(1.1, BLOCKS + 0.75, 'ViT', ha='center', fontsize=11, weight='bold', color=INK)
    for block in range(BLOCKS):
        axes.add_patch(Rectangle((0, block + 0.06), 2.2, 0.88, facecolor=color(block), alpha=0.9))
        axes.text(1.1, block + 0.5, f'block {block + 1}', ha='center', va='center', fontsize=8, color='white')
    column(axes, 3.2, 3.6, 'objective', 'MAE, then MoCo v3')
    for low, high, text, tint in ((0, 8, 'masked image\nmodeling', LOWER), (8, 12, 'contrastive\nlearning', UPPER)):
        axes.add_patch(Rectangle((3.2, low + 0.06), 3.6, high - low - 0.12, facecolor=tint, alpha=0.14))
        axes.text(5, (low + high) / 2, text, ha='center', va='center', fontsize=10, color=tint)
    column(axes, 7.6, 3.6, 'learning rate', 'stage_lr_mult=[.1, .1, 1]')
    for block in range(BLOCKS):
        rate = RATES[block * STAGES // BLOCKS]
        axes.add_patch(Rectangle((7.7, block + 0.22), 3.3 * rate, 0.56, facecolor=color(block)))
    column(axes, 12, 3.2, 'anchor', 'WeightAnchor(max_depth=8)')
    for block in range(8):
        axes.annotate('', (12.35, block + 0.5), (14.7, block + 0.5),
                      arrowprops=dict(arrowstyle='->', color=LOWER, linewidth=1.4))
    axes.text(13.6, 10, 'free', ha='center', va='center', fontsize=10, color=UPPER)
    column(axes, 16, 3.4, 'freezing', 'FreezeOutLR(t0=.5)')
    for block in range(BLOCKS):
        end = 3.2 * FREEZE[block + 1]
        axes.add_patch(Rectangle((16.1, block + 0.22), end, 0.56, facecolor=color(block)))
        axes.add_patch(Rectangle((16.1 + end, block + 0.22), 3.2 - end, 0.56, facecolor=LINE))
    axes.text(17.7, -0.62, 'training time →', ha='center', fontsize=7, color=SOFT)


if __name__ == '__main__':
    figure, axes = plt.subplots(figsize=(9.6, 4.9), facecolor='white')
    draw(axes)
    figure.savefig(Path(__file__).resolve().parents[1] / 'images' / 'idea.png', dpi=130, bbox_inches='tight',
                   metadata={'Software': None})
