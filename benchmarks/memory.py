"""What a step keeps for each image, counted on the meta device, and the largest batches that follow from it.

    python -m benchmarks.memory --page docs/performance.md

Nothing is computed: shapes alone say how many bytes autograd keeps, in fp32 and with fused attention where the step
has it. A card has room for weights, gradients and both
moments of AdamW (16 bytes for each trained weight, 4 for each frozen one), for what is kept for the images, and for a
reserve of a tenth, which kernels and the allocator need.
"""

import argparse
from pathlib import Path
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor, nn

from benchmarks.costs import saved_bytes_per_image
from benchmarks.page import put
from benchmarks.table import CONFIGS, ROOT
from mm_graft.analysis.param_table import build_on_meta
from mm_graft.depth import blocks_of
from mm_graft.engine.freezing.freeze_once import freeze_blocks
from mm_graft.engine.speed.checkpoint_blocks_hook import CheckpointBlocksHook

RESERVE = 0.1
GRAFT_L = 'graft/vit-l_mae2mocov3.py'
PLAIN, LEAN, FROZEN, CHECKPOINTED = 'as it is', 'class token only', 'half frozen', 'checkpointed'
WAYS = ((PLAIN, ), (LEAN, ), (FROZEN, ), (CHECKPOINTED, ), (FROZEN, CHECKPOINTED), (LEAN, FROZEN, CHECKPOINTED))


def build(path: str, way: tuple[str, ...]) -> nn.Module:
    """A config's model without data, with what saves memory applied."""
    cfg = Config.fromfile(ROOT / 'configs' / path)
    if LEAN in way:
        cfg.model.backbone.class_token_only = True
    model, optim_wrapper = build_on_meta(cfg)
    if hasattr(model, 'momentum_encoder'):
        model.momentum_encoder.max_iters = 1
    model.train()
    if FROZEN in way:
        freeze_blocks(model, optim_wrapper.optimizer, len(blocks_of(model)) // 2)
    if CHECKPOINTED in way:
        CheckpointBlocksHook().apply(model)
    return model


def image_bytes(model: nn.Module) -> float:
    """What autograd keeps for one more image of 224 pixels, or for both of its views."""
    def loss(count: int) -> Tensor:
        images = torch.empty(count, 3, 224, 224, device='meta')
        views = [images, images] if hasattr(model, 'momentum_encoder') else images
        return model.parse_losses(model.loss(views, None))[0]

    return saved_bytes_per_image(model, loss)


def fixed_bytes(model: nn.Module) -> int:
    """Weights, gradients and moments in fp32."""
    return sum((16 if param.requires_grad else 4) * param.numel() for param in model.parameters())


def largest_batch(memory: float, fixed: float, image: float) -> int:
    """Images that fit into a card's bytes beside what does not depend on them."""
    return max(0, int(((1 - RESERVE) * memory - fixed) // image))


def methods_table() -> str:
    """MiB an image of each method with ViT-B, a column a way."""
    lines = ['| ViT-B, MiB an image | ' + ' | '.join(', '.join(way) for way in WAYS) + ' |',
             '|---|' + '---:|' * len(WAYS)]
    for method, path in CONFIGS.items():
        values = ['–' if LEAN in way and method != 'MoCo v3' else f'{image_bytes(build(path, way)) / 2**20:.1f}'
                  for way in WAYS]
        lines.append(f'| {method} | {" | ".join(values)} |')
    return '\n'.join(lines)


def graft_table(gib: float) -> str:
    """The largest batches of the graft of a ViT-L on one card, a row a way."""
    lines = [f'| graft of a ViT-L, card of {gib:g} GB | GiB beside images | MiB an image | largest batch |',
             '|---|---:|---:|---:|']
    for way in WAYS:
        model = build(GRAFT_L, way)
        image, fixed = image_bytes(model), fixed_bytes(model)
        lines.append(f'| {", ".join(way)} | {fixed / 2**30:.1f} | {image / 2**20:.0f} | '
                     f'{largest_batch(gib * 2**30, fixed, image)} |')
    return '\n'.join(lines)


def main() -> None:
    """Count and print, or write, both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--gib', type=float, default=24, help='memory of the card')
    parser.add_argument('--page', type=Path, help='page that gets the tables')
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel('WARNING')
    with mock.patch('torch.autocast', mock.MagicMock()):  # there is none for the meta device
        text = f'{methods_table()}\n\n{graft_table(args.gib)}'
    print(text)
    if args.page:
        put(args.page, 'memory', text)


if __name__ == '__main__':
    main()
