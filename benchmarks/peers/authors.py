"""The authors' code from clones of theirs, its training functions as they are.

Clones are expected below one folder: ``mae``, ``moco-v3`` (facebookresearch), ``LocalMIM`` (Haoqing-Wang) and
``ConMIM`` (TencentARC). They were written for a GPU and for timm and PyTorch of their day: what is gone from those is
put back here, and what asks for a GPU does nothing.
"""

import contextlib
import copy
import io
import subprocess
import sys
import types
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import timm.layers.helpers
import timm.models.vision_transformer as timm_vit
import torch
from torch import nn
from torchvision import transforms

from benchmarks.peers import torch_parts
from benchmarks.peers.contest import Entry, Size
from benchmarks.table import WIDTHS

NAME = "authors' code"
FOLDERS = {'MAE': 'mae', 'MoCo v3': 'moco-v3', 'LocalMIM': 'LocalMIM', 'ConMIM': 'ConMIM'}
SCHEDULE = dict(epochs=100, warmup_epochs=10, lr=1e-4, min_lr=0.0)


def entries(method: str, size: Size, clones: Path | None) -> Iterator[Entry]:
    """The authors' step as it is, and with fused AdamW and fused attention; nothing without a clone."""
    make = {'MAE': mae, 'MoCo v3': mocov3, 'LocalMIM': localmim, 'ConMIM': conmim}.get(method)
    if make is None or clones is None:
        return
    folder = clones / FOLDERS[method]
    if not folder.is_dir():
        raise FileNotFoundError(f'{folder} does not exist; clone the authors\' repository there')
    # PyTorch has no fused attention with a bias that learns on CPUs, and ConMIM's is of its own
    both = 'fused AdamW' if method == 'ConMIM' else 'fused AdamW and attention'
    for fused in (False, True):
        with of_their_day():
            step, transform = quiet(make(folder, size, fused)), images_of(method, folder, size)
        yield Entry(NAME, both if fused else '', step, torch_parts.loader(transform, size))
        del step


def commits(clones: Path | None) -> dict[str, str]:
    """Folder → short commit of the clones that are there."""
    folders = [clones / name for name in FOLDERS.values()] if clones else []
    return {folder.name: subprocess.run(
        ['git', '-C', str(folder), 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, check=True,
        timeout=60).stdout.strip() for folder in folders if folder.is_dir()}


@contextlib.contextmanager
def of_their_day() -> Iterator[None]:
    """Put back what their modules import, and switch off what asks for a GPU; the latter stays."""
    six, board = ModuleType('torch._six'), ModuleType('tensorboardX')
    six.inf, board.SummaryWriter = float('inf'), object
    block, added = timm_vit.Block, {'torch._six': six, 'tensorboardX': board,
                                    'timm.models.layers.helpers': timm.layers.helpers}
    sys.modules.update(added)
    timm_vit.Block = lambda *args, qk_scale=None, **kwargs: block(*args, **kwargs)
    timm_vit.VisionTransformer.num_tokens = 1
    np.float = float  # noqa: NPY001 - gone from NumPy, not from their code
    torch.cuda.synchronize = lambda *args: None
    torch.Tensor.cuda = lambda tensor, *args, **kwargs: tensor
    torch.distributed.get_rank = lambda *args: 0
    try:
        yield
    finally:
        timm_vit.Block = block
        for name in added:
            del sys.modules[name]


def load(folder: Path, name: str) -> ModuleType:
    """A module of a clone; modules of other clones and of packages that have the same names are out of its sight."""
    names = {path.stem for path in folder.iterdir()}

    def of_names() -> dict[str, ModuleType]:
        return {key: module for key, module in sys.modules.items() if key.split('.')[0] in names}

    others = of_names()
    for key in others:
        del sys.modules[key]
    sys.path.insert(0, str(folder))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(folder))
        for key in of_names():
            del sys.modules[key]
        sys.modules.update(others)


def quiet(step: Callable[[], object]) -> Callable[[], None]:
    """The step without what it prints."""
    def silent() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            step()

    return silent


def written_out(model: nn.Module, fused: bool) -> nn.Module:
    """Let timm's attention be written out, as in the version that the authors ask for, or fused."""
    for module in model.modules():
        if hasattr(module, 'fused_attn'):
            module.fused_attn = fused
    return model


def vit_arguments(size: Size) -> dict:
    """A ViT's size in the authors' words."""
    width, heads = WIDTHS[size.width]
    return dict(img_size=size.side, patch_size=16, embed_dim=width, depth=size.blocks, num_heads=heads, mlp_ratio=4,
                norm_layer=partial(nn.LayerNorm, eps=1e-6))


def images_of(method: str, folder: Path, size: Size) -> Callable:
    """Their transform of an image."""
    if method == 'MoCo v3':
        module = load(folder, 'moco.loader')
        blur = module.GaussianBlur([0.1, 2.0])
        views = [torch_parts.view(size, [transforms.RandomApply([blur], p=1.0)]), torch_parts.view(
            size, [transforms.RandomApply([blur], p=0.1)], [transforms.RandomApply([module.Solarize()], p=0.2)])]
        return module.TwoCropsTransform(*views)
    if method == 'ConMIM':
        return load(folder, 'datasets').DataAugmentationForConMIM(Namespace(
            imagenet_default_mean_and_std=True, input_size=size.side, second_input_size=size.side // 2,
            train_interpolation='bicubic', second_interpolation='lanczos', mask_type='random_mps32', mask_ratio=0.75))
    return torch_parts.crop(size)


def mae(folder: Path, size: Size, fused: bool) -> Callable[[], object]:
    """MAE."""
    model = load(folder, 'models_mae').MaskedAutoencoderViT(
        **vit_arguments(size), decoder_embed_dim=512, decoder_depth=8, decoder_num_heads=16, norm_pix_loss=True)
    return masked(folder, model, size, fused)


def localmim(folder: Path, size: Size, fused: bool) -> Callable[[], object]:
    """LocalMIM."""
    model = load(folder / 'ViT', 'models_mim').MaskedAutoencoderViT(
        **vit_arguments(size), decoder_embed_dim=256, decoder_depth=1, decoder_num_heads=8)
    return masked(folder / 'ViT', model, size, fused)


def masked(folder: Path, model: nn.Module, size: Size, fused: bool) -> Callable[[], object]:
    """An epoch of one batch by the training function that MAE and LocalMIM share."""
    train, scaler = load(folder, 'engine_pretrain').train_one_epoch, load(folder, 'util.misc')
    optimizer = torch_parts.adamw(written_out(model, fused), fused)
    args = Namespace(accum_iter=1, mask_ratio=0.75, **SCHEDULE)
    batches, scaled = [(torch_parts.images(size), None)], scaler.NativeScalerWithGradNormCount()
    return lambda: train(model, batches, optimizer, torch.device('cpu'), 0, scaled, args=args)


def mocov3(folder: Path, size: Size, fused: bool) -> Callable[[], object]:
    """MoCo v3, without gathering from other processes."""
    main = load(folder, 'main_moco')
    main.moco.builder.concat_all_gather = lambda tensor: tensor
    encoder = partial(main.vits.VisionTransformerMoCo, **vit_arguments(size), qkv_bias=True, stop_grad_conv1=True)
    model = written_out(main.moco.builder.MoCo_ViT(encoder, 256, 4096, torch_parts.TEMPERATURE), fused)
    optimizer, scaler = torch_parts.adamw(model, fused, (0.9, 0.999)), torch.cuda.amp.GradScaler()
    args = Namespace(moco_m=0.99, moco_m_cos=True, gpu=None, rank=1, print_freq=10, **SCHEDULE)
    batches = [([torch_parts.images(size) for _ in range(2)], None)]
    return lambda: main.train(batches, model, optimizer, scaler, None, 0, args)


def conmim(folder: Path, size: Size, fused: bool) -> Callable[[], object]:
    """ConMIM."""
    engine, scaler = load(folder, 'engine_for_pretraining'), load(folder, 'utils').NativeScalerWithGradNormCount()
    scaler.state_dict = types.MethodType(lambda self: {'scale': 1.0}, scaler)  # without a GPU there is none
    model = nn.DataParallel(load(folder, 'modeling_pretrain').VisionTransformerForMaskedImageModeling(
        **vit_arguments(size), qkv_bias=True, init_values=0.1, use_abs_pos_emb=False, use_shared_rel_pos_bias=True,
        use_mlp_projectors=True))
    teacher = copy.deepcopy(model.module).requires_grad_(False)
    optimizer = torch_parts.adamw(model, fused, (0.9, 0.98))
    side = size.side // 16
    hidden = torch.rand(size.batch, side, side) < 0.75
    batches = [((torch_parts.images(size), torch_parts.images(size), hidden), None)]
    return lambda: engine.train_one_epoch(
        model, batches, optimizer, torch.device('cpu'), 0, scaler, [0.996], teacher, teacher, 0.1, max_norm=3.0,
        start_steps=0)
