"""What the features of a block are worth, with n new blocks trained behind it (Layer Grafted Pre-training, Table 5).

As in the authors' code the blocks above b become identities, so the pre-trained final norm follows block b directly.
n = 0 is linear probing of these features. With n > 0, n randomly initialised blocks of the same shape, the final norm
and a linear classifier are trained, everything up to block b stays frozen and in eval mode. Their drop path in the new
blocks and their mixup are left to the config ``configs/eval/probe-depth_vit-b.py``; here is the plain recipe.
"""

from collections.abc import Iterable
from copy import deepcopy
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm_graft.depth import block_lists, find_backbone
from mm_graft.evaluation.features import encode, unpack_batch
from mm_graft.evaluation.linear_probe import cosine_multiplier


def single_list(encoder: nn.Module) -> nn.ModuleList | nn.Sequential:
    """The list of transformer blocks of a plain ViT, to be changed in place.

    Raises:
        ValueError: the backbone has none, or several stages.
    """
    backbone = find_backbone(encoder)[1]
    blocks, *more = block_lists(backbone)
    if more:
        raise ValueError(f'{type(backbone).__name__} has no single list of blocks; probe-depth needs a plain ViT')
    return blocks


def cut_after(encoder: nn.Module, block: int) -> nn.Module:
    """A copy of an encoder whose blocks above ``block`` (counted from 1) are identities.

    Raises:
        ValueError: there is no such block.
    """
    cut = deepcopy(encoder)
    blocks = single_list(cut)
    if not 1 <= block <= len(blocks):
        raise ValueError(f'block={block}; this encoder has blocks 1 to {len(blocks)}')
    for index in range(block, len(blocks)):
        blocks[index] = nn.Identity()
    return cut


def with_new_blocks(encoder: nn.Module, block: int, new_blocks: int) -> nn.Module:
    """A copy of an encoder that is frozen up to ``block`` and goes on with new blocks; later ones are identities.

    Raises:
        ValueError: there is no such block, or fewer than one new block is asked for.
    """
    if new_blocks < 1:
        raise ValueError(f'new_blocks={new_blocks}; take at least 1, or probe the block linearly')
    fresh = [deepcopy(single_list(encoder)[0]) for _ in range(new_blocks)]
    for layer in fresh:
        reinitialise(layer)
    cut = cut_after(encoder, block).eval()
    blocks = single_list(cut)
    # One module takes the place of the block after b; a cut after the last block appends to that one.
    if block < len(blocks):
        blocks[block] = nn.Sequential(*fresh)
    else:
        blocks[block - 1] = nn.Sequential(blocks[block - 1], *fresh)
    cut.requires_grad_(False)
    for layer in fresh:
        layer.requires_grad_(True).train()
    for name, parameter in find_backbone(cut)[1].named_parameters():
        if name.startswith(('ln1.', 'norm.')):
            parameter.requires_grad_(True)
    return cut


def reinitialise(block: nn.Module) -> None:
    """Give a block random weights as a new one has: Xavier-uniform matrices, zero biases, norms at 1 and 0."""
    for module in block.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()


def train_behind(
    model: nn.Module,
    loaders: Iterable[Iterable],
    num_classes: int,
    pool: str = 'cls',
    base_lr: float = 5e-4,
    weight_decay: float = 0.05,
) -> nn.Linear:
    """Train what requires gradients in ``model`` and a linear classifier behind it by AdamW; returns the classifier.

    Args:
        model: from :func:`with_new_blocks`; its data preprocessor is used.
        loaders: one iterable of host batches for each epoch.
        num_classes: C.
        pool: ``'cls'`` or ``'avg'``.
        base_lr: for 256 images; half a cosine over the epochs, the first at a tenth.
        weight_decay: of matrices; vectors have none.
    """
    device = next(model.parameters()).device
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loaders, head, optimizer = list(loaders), None, None
    for epoch, loader in enumerate(loaders):
        for batch in loader:
            images, labels = unpack_batch(model, batch, device)
            features = encode(model.backbone, images, pool)
            if head is None:
                head = nn.Linear(features.shape[1], num_classes).to(device)
                nn.init.trunc_normal_(head.weight, std=2e-5, a=-2e-5, b=2e-5)
                optimizer = _adamw([*trained, *head.parameters()], weight_decay)
            rate = base_lr * len(labels) / 256 * (cosine_multiplier(epoch, len(loaders)) if epoch else 0.1)
            for group in optimizer.param_groups:
                group['lr'] = rate
            optimizer.zero_grad()
            F.cross_entropy(head(features), labels.to(device)).backward()
            optimizer.step()
    return head


@torch.no_grad()
def predict_behind(model: nn.Module, head: nn.Linear, loader: Iterable, pool: str = 'cls') -> tuple[Tensor, Tensor]:
    """Predicted classes and labels of the images of a loader."""
    model.eval()
    predictions, labels = [], []
    for batch in loader:
        images, batch_labels = unpack_batch(model, batch, head.weight.device)
        predictions.append(head(encode(model.backbone, images, pool)).argmax(1).cpu())
        labels.append(batch_labels)
    return torch.cat(predictions), torch.cat(labels)


def default_blocks(count: int) -> list[int]:
    """Half, three quarters and all of the blocks: 6, 9 and 12 of ViT-B, as in Table 5."""
    return sorted({ceil(count / 2), ceil(3 * count / 4), count})


def _adamw(parameters: list[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    return torch.optim.AdamW([
        {'params': [parameter for parameter in parameters if parameter.ndim > 1], 'weight_decay': weight_decay},
        {'params': [parameter for parameter in parameters if parameter.ndim <= 1], 'weight_decay': 0.0}])
