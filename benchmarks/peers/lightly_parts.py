"""lightly: its modules around timm's ViT, put together as its documentation does; and its transforms."""

import copy
from collections.abc import Callable, Iterator

import torch
from lightly.loss import NTXentLoss
from lightly.models import utils
from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM, SimCLRProjectionHead
from lightly.models.modules.heads import ProjectionHead
from lightly.transforms.byol_transform import BYOLTransform, BYOLView1Transform, BYOLView2Transform
from lightly.transforms.mae_transform import MAETransform
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.peers import torch_parts
from benchmarks.peers.contest import Entry, Size
from benchmarks.table import WIDTHS

NAME = 'lightly'


def entries(method: str, size: Size) -> Iterator[Entry]:
    """What lightly has of a method, as it is and with fused AdamW; timm's attention is fused already."""
    makers = {'MAE': (mae, one_crop), 'MoCo v3': (mocov3, two_views), 'SimCLR': (simclr, two_views)}
    return torch_parts.entries(NAME, makers.get(method), size)


def one_crop(size: Size) -> Callable:
    return MAETransform(input_size=size.side)


def two_views(size: Size) -> Callable:
    return BYOLTransform(BYOLView1Transform(input_size=size.side), BYOLView2Transform(input_size=size.side))


def mae(size: Size, fused: bool) -> Callable[[], None]:
    """MAE; the decoder predicts the hidden patches only, the pixels are standardized."""
    encoder = MaskedVisionTransformerTIMM(torch_parts.vit(size))
    tokens = encoder.sequence_length
    decoder = MAEDecoderTIMM(num_patches=tokens - 1, patch_size=16, embed_dim=WIDTHS[size.width][0])
    batch = torch_parts.images(size)

    def loss() -> Tensor:
        keep, hidden = utils.random_token_mask(size=(size.batch, tokens), mask_ratio=0.75)
        seen = decoder.embed(encoder.encode(images=batch, idx_keep=keep))
        full = utils.set_at_index(utils.repeat_token(decoder.mask_token, (size.batch, tokens)), keep, seen)
        predicted = decoder.predict(utils.get_at_index(decoder.decode(full), hidden))
        target = utils.get_at_index(utils.patchify(batch, 16), hidden - 1)  # patches have no class token
        return F.mse_loss(predicted, utils.normalize_mean_var(target))

    return torch_parts.training(nn.ModuleList([encoder, decoder]), loss, fused)


def projector(width: int, hidden: int, depth: int) -> ProjectionHead:
    """MoCo v3's projector (3 layers) or predictor (2) of lightly's blocks."""
    inner = [(width if index == 0 else 4096, hidden, nn.BatchNorm1d(hidden), nn.ReLU()) for index in range(depth - 1)]
    return ProjectionHead([*inner, (hidden, 256, nn.BatchNorm1d(256, affine=False), None)])


def mocov3(size: Size, fused: bool) -> Callable[[], None]:
    """MoCo v3; lightly has no model of it, so its heads, its average and PyTorch's cross-entropy."""
    base = nn.Sequential(torch_parts.vit(size), projector(WIDTHS[size.width][0], 4096, 3))
    momentum, predictor = copy.deepcopy(base), projector(256, 4096, 2)
    utils.deactivate_requires_grad(momentum)
    views, labels = [torch_parts.images(size) for _ in range(2)], torch.arange(size.batch)

    def loss() -> Tensor:
        queries = [F.normalize(predictor(base(view)), dim=1) for view in views]
        utils.update_momentum(base, momentum, 0.99)
        with torch.no_grad():
            keys = [F.normalize(momentum(view), dim=1) for view in views]
        scale = torch_parts.TEMPERATURE
        return 2 * scale * sum(F.cross_entropy(query @ key.T / scale, labels)
                               for query, key in zip(queries, reversed(keys)))

    return torch_parts.training(nn.ModuleList([base, predictor]), loss, fused)


def simclr(size: Size, fused: bool) -> Callable[[], None]:
    """SimCLR."""
    model = nn.Sequential(torch_parts.vit(size), SimCLRProjectionHead(WIDTHS[size.width][0], 2048, 128))
    views, criterion = [torch_parts.images(size) for _ in range(2)], NTXentLoss(temperature=0.1)
    return torch_parts.training(model, lambda: criterion(*(model(view) for view in views)), fused)
