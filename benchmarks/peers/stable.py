"""stable-pretraining: its methods and transforms; steps are plain PyTorch, so its trainer is not paid for."""

from collections.abc import Callable, Iterator

import stable_pretraining.data.transforms as stable
from PIL import Image
from stable_pretraining.methods import MAE, MoCov3, SimCLR
from torch import Tensor

from benchmarks.peers import torch_parts
from benchmarks.peers.contest import Entry, Size

NAME = 'stable-pretraining'


def entries(method: str, size: Size) -> Iterator[Entry]:
    """What stable-pretraining has of a method, as it is and with fused AdamW; its attention is fused already."""
    makers = {'MAE': (mae, one_crop), 'MoCo v3': (mocov3, two_views), 'SimCLR': (simclr, two_views)}
    return torch_parts.entries(NAME, makers.get(method), size)


def one_crop(size: Size) -> Callable[[Image.Image], Tensor]:
    made = stable.Compose(
        stable.RandomResizedCrop(size.side, (0.2, 1.0), interpolation=3), stable.RandomHorizontalFlip(), _image())
    return lambda image: made({'image': image})['image']


def two_views(size: Size) -> Callable[[Image.Image], list[Tensor]]:
    views = [stable.Compose(
        stable.RandomResizedCrop(size.side, (0.08, 1.0)), stable.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8),
        stable.RandomGrayscale(0.2), stable.PILGaussianBlur(p=blur), stable.RandomSolarize(128, p=solarize),
        stable.RandomHorizontalFlip(), _image()) for blur, solarize in ((1.0, 0.0), (0.1, 0.2))]
    return lambda image: [view({'image': image})['image'] for view in views]


def _image() -> stable.ToImage:
    return stable.ToImage(mean=torch_parts.MEAN, std=torch_parts.STD)


def mae(size: Size, fused: bool) -> Callable[[], None]:
    """MAE."""
    model, batch = MAE(torch_parts.vit(size)), torch_parts.images(size)
    return torch_parts.training(model, lambda: model(batch).loss, fused)


def mocov3(size: Size, fused: bool) -> Callable[[], None]:
    """MoCo v3; what its callback does after a step is done here."""
    model = MoCov3(torch_parts.vit(size, dynamic_img_size=True), projector_dims=torch_parts.PROJECTOR,
                   temperature=torch_parts.TEMPERATURE)
    views = [torch_parts.images(size) for _ in range(2)]

    def average() -> None:
        model.backbone.update_teacher()
        model.projector.update_teacher()

    return torch_parts.training(model, lambda: model(*views).loss, fused, average)


def simclr(size: Size, fused: bool) -> Callable[[], None]:
    """SimCLR."""
    model = SimCLR(torch_parts.vit(size, dynamic_img_size=True), projector_dims=(2048, 128), temperature=0.1)
    views = [torch_parts.images(size) for _ in range(2)]
    return torch_parts.training(model, lambda: model(*views).loss, fused)
