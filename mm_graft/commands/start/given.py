"""The encoder that `mm_graft start --from` begins with: where its weights are, and what its files tell of it."""

import shutil
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mm_graft.checkpoints.facts import heads_of
from mm_graft.checkpoints.settings import settings_beside
from mm_graft.commands.start.plan import Encoder
from mm_graft.encoders import patch_projection
from mm_graft.pretrained import guess_config

HUB = 'timm/'


def local_weights(checkpoint: str | None, out: Path) -> str | None:
    """Where weights are on this machine; ``timm/NAME`` is fetched once, by timm itself, into a folder below ``out``."""
    if checkpoint is None or not checkpoint.startswith(HUB) or Path(checkpoint).exists():
        return checkpoint
    folder = out / 'weights' / checkpoint.removeprefix(HUB)
    if not folder.is_dir():
        fetch_timm(checkpoint.removeprefix(HUB), folder)
    return str(folder)


def fetch_timm(name: str, folder: Path) -> None:
    """Write timm's pretrained model as a folder of ``config.json`` and ``model.safetensors``, whole or not at all."""
    import timm
    if not timm.is_model(name):
        near = timm.list_pretrained(f'*{name.split(".")[0]}*')[:5]
        raise ValueError(f'timm {timm.__version__} has no model {name!r}'
                         + (f'; did you mean one of {near}?' if near else '; give a folder or a file of weights'))
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # no network, no weights for the name, no space …
        why = (str(error).splitlines() or [repr(error)])[0]
        raise ValueError(f'timm/{name} cannot be fetched: {why}; fetch it elsewhere, and give the folder of its '
                         'config.json and model.safetensors') from error
    part = folder.with_name(f'{folder.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    timm.models.save_for_hf(model, part, safe_serialization=True)
    part.rename(folder)


def read_encoder(path: str, channels: int | None = None) -> Encoder:
    """The ViT in a file or folder of any known layout, at the image size that its positions are for.

    Of ``channels``, by whose measured mean and standard deviation it is used, it need not say its own.
    """
    init_default_scope('mmpretrain')
    model = guess_config(path, channels=channels).model
    with torch.device('meta'):
        vit = MODELS.build({**model.backbone, 'out_type': 'raw'})
    backbone = {**model.backbone, 'out_type': tokens_of(vit, settings_beside(path).family)}
    patch = patch_projection(vit).kernel_size[0]
    return Encoder(f'ViT of {vit.num_layers} blocks of width {vit.embed_dims}', vit.embed_dims, vit.num_layers,
                   heads_of(vit), patch * min(vit.patch_resolution), patch, backbone,
                   {key: model.data_preprocessor[key] for key in ('mean', 'std')})


def tokens_of(vit: nn.Module, family: str | None) -> str:
    """Which of its outputs an encoder was trained to describe images by; MAE's class token describes nothing."""
    if getattr(vit.timm_model, 'attn_pool', None) is not None:
        return 'pooled'
    return 'cls_token' if vit.num_extra_tokens and family != 'vit_mae' else 'avg_featmap'
