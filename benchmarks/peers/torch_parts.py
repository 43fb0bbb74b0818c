"""What the peers outside OpenMMLab share: timm's ViT, batches of random images, plain training, views of PIL."""

from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.optim import AdamW
from torch.utils.data import default_collate
from torchvision import transforms

from benchmarks.peers.contest import Entry, Size
from benchmarks.table import WIDTHS

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROJECTOR = (4096, 4096, 256)  # of MoCo v3
TEMPERATURE = 0.2


def vit(size: Size, **kwargs) -> VisionTransformer:
    """A ViT of timm without a classifier; its attention is PyTorch's fused one."""
    width, heads = WIDTHS[size.width]
    return VisionTransformer(img_size=size.side, patch_size=16, embed_dim=width, depth=size.blocks, num_heads=heads,
                             num_classes=0, **kwargs)


def images(size: Size) -> Tensor:
    """Normalized random images (B, 3, H, W)."""
    return torch.randn(size.batch, 3, size.side, size.side)


def adamw(model: nn.Module, fused: bool, betas: tuple[float, float] = (0.9, 0.95)) -> AdamW:
    """AdamW as PyTorch chooses it, or in one kernel; biases and norms are not decayed."""
    return AdamW(param_groups_weight_decay(model, 0.05), lr=1e-4, betas=betas, fused=True if fused else None)


def training(model: nn.Module, loss: Callable[[], Tensor], fused: bool,
             after: Callable[[], object] = lambda: None) -> Callable[[], None]:
    """A function that takes one step as Lightning does: loss, backward, optimizer, and what comes after."""
    optimizer = adamw(model.train(), fused)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        after()

    return step


def loader(make: Callable[[Image.Image], object], size: Size) -> Callable[[], object]:
    """A function that makes a batch from files with a transform of images of PIL."""
    def load() -> object:
        return default_collate([make(Image.open(path).convert('RGB')) for path in size.photos[:size.batch]])

    return load


def entries(name: str, makers: tuple[Callable, Callable] | None, size: Size) -> Iterator[Entry]:
    """A peer's step of a method as it is and with fused AdamW; none for a method that the peer lacks.

    Args:
        name: of the peer.
        makers: of the step, and of the transform of one image.
        size: of the benchmark.
    """
    if makers is None:
        return
    make, transform = makers
    batches = loader(transform(size), size)
    for fused in (False, True):
        yield Entry(name, 'fused AdamW' if fused else '', make(size, fused), batches)


def crop(size: Size) -> transforms.Compose:
    """MAE's one crop and flip, in torchvision's transforms."""
    return transforms.Compose([
        transforms.RandomResizedCrop(size.side, (0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def view(size: Size, blur: Sequence, solarize: Sequence = ()) -> transforms.Compose:
    """A view of MoCo v3 in torchvision's transforms, with its authors' blur and solarization."""
    jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
    return transforms.Compose([
        transforms.RandomResizedCrop(size.side, (0.08, 1.0)), jitter, transforms.RandomGrayscale(0.2), *blur, *solarize,
        transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
