"""Facts that no tensor stores (heads, activation, grid …), from metadata in a file or in JSON files beside it."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from mmengine.registry import MODELS
from mmpretrain.models.backbones import VisionTransformer
from torch import nn

from mm_graft.checkpoints.bounds import bounded_by
from mm_graft.checkpoints.containers import CheckpointFile, provenance_of
from mm_graft.checkpoints.reading import meta_of
from mm_graft.checkpoints.recorded_config import parse_config
from mm_graft.checkpoints.resize import Grid, grid_of
from mm_graft.checkpoints.settings import Pixels, Settings, as_dict, named_model, pixels_of, settings_beside
from mm_graft.checkpoints.unpickler import Inert
from mm_graft.registry import import_scope

ARGUMENTS = ('args', 'opt', 'config', 'cfg', 'hyper_parameters', 'model_args')
NAMED = re.compile(r'(?:^|[_-])(?:vit|deit3?|beit|mae_vit|eva)_?(?:conv_)?(tiny|small|base|large|huge)')
HEADS = {'tiny': 3, 'small': 6, 'base': 12, 'large': 16, 'huge': 16}
WIDTHS = {'tiny': 192, 'small': 384, 'base': 768, 'large': 1024, 'huge': 1280}
HEADS_OF_MOCOV3 = {**HEADS, 'small': 12}  # facebookresearch/moco-v3, vits.py: heads of 32 in ViT-S
HOST_EPS, MMSEG_EPS = 1e-6, 1e-5  # of the norms of their ViTs, if a config says nothing of them
# Other names of an activation; any further one is its own name, so that it is compared and never taken for unstated
ACTIVATIONS = {'gelu_python': 'gelu', 'swish': 'silu', 'quickgelu': 'quick_gelu', **dict.fromkeys(
    ('gelu_new', 'gelu_fast', 'gelu_accurate', 'gelu_pytorch_tanh', 'gelu_python_tanh'), 'gelu_tanh')}
MODULES = {'ReLU': 'relu', 'SiLU': 'silu', 'Swish': 'silu', 'QuickGELU': 'quick_gelu', 'GELUTanh': 'gelu_tanh'}


class Facts(NamedTuple):
    """Facts about an encoder; None where not stated."""

    heads: int | None = None
    activation: str | None = None
    grid: Grid | None = None  #: rows and columns of patches of the position table
    source: str = ''  #: where the facts are stated
    eps: float | None = None
    pixels: Pixels | None = None  #: mean and standard deviation of each channel in 0…1, RGB
    beside: Settings = Settings()  #: settings in JSON files beside the weights


def read_facts(file: CheckpointFile, layout: str, width: int) -> Facts:
    """The facts in a conversion's record, a run's config, a training's arguments, or a ``config.json``."""
    names = {size: heads for size, heads in (HEADS_OF_MOCOV3 if layout in ('mocov3', 'graft') else HEADS).items()
             if WIDTHS[size] == width}  # a name says nothing about a model that was built narrower
    facts = Facts()
    for found in (from_record(file), from_config(file), from_arguments(file.content, names),
                  from_sidecar(file, names, width)):
        facts = Facts(*(known or further for known, further in zip(facts[:-1], found[:-1])),
                      facts.beside if facts.beside.source else found.beside)
    return facts


def from_record(file: CheckpointFile) -> Facts:
    """Facts recorded by the conversion that wrote a file."""
    record = provenance_of(file.content) or {}
    grid = record.get('grid') if record.get('grid_known') != 'assumed' else None
    grid = tuple(grid) if isinstance(grid, list) and len(grid) == 2 and all(map(_whole, grid)) else None
    found = (_whole(record.get('heads')), named_activation(record.get('activation')), grid)
    pixels = record.get('pixels') if isinstance(record.get('pixels'), list | tuple) else ()
    return Facts(*found, 'its record' if any(found) else '', _eps(record.get('eps')),
                 pixels_of(*pixels) if len(pixels) == 2 else None)


def from_config(file: CheckpointFile) -> Facts:
    """Facts in the config that MMEngine stored in a file, which is parsed and not executed."""
    cfg = as_dict(parse_config(meta_of(file.content).get('cfg')))
    model = as_dict(cfg.get('model'))
    backbone = as_dict(model.get('backbone'))
    if not backbone:
        return Facts()
    pixels = from_preprocessor(model.get('data_preprocessor') or cfg.get('data_preprocessor'))
    if 'model_name' in backbone:
        with bounded_by(file.path, backbone):
            return from_timm(backbone, 'its config')._replace(pixels=pixels)
    norm, layer = (as_dict(backbone.get(key)) for key in ('norm_cfg', 'layer_cfgs'))
    act = as_dict({**backbone, **layer}.get('act_cfg')).get('type', 'gelu')
    default = MMSEG_EPS if 'num_heads' in backbone else HOST_EPS
    return Facts(_heads(backbone), named_activation(act),
                 _grid(backbone.get('img_size', 224), backbone.get('patch_size', 16)), 'its config',
                 _eps({'eps': 1e-5, **norm}['eps'] if norm else default), pixels)


def _heads(settings: Mapping) -> int | None:
    """Of mmpretrain's ViTs, whose ``arch`` has a name or says it, or of mmseg's, which say it beside other sizes."""
    arch = settings.get('arch', 'base' if 'num_heads' not in settings else settings)
    if isinstance(arch, str):
        arch = next((sizes for names, sizes in VisionTransformer.arch_zoo.items() if arch in names), {})
    return _whole(as_dict(arch).get('num_heads'))


def from_preprocessor(settings: object) -> Pixels | None:
    """Mean and standard deviation of a config's data preprocessor, in 0…1."""
    pixels = pixels_of(as_dict(settings).get('mean'), as_dict(settings).get('std'))
    return pixels and tuple(tuple(value / 255 for value in side) for side in pixels)


def from_timm(backbone: dict, source: str, width: int | None = None) -> Facts:
    """Facts of the timm ViT that a config names, built without weights; none of one of another ``width``."""
    import_scope('mm_graft')
    try:
        with torch.device('meta'):
            vit = MODELS.build({**backbone, 'type': 'mm_graft.TimmViT'})
    except Exception:  # a name that this timm does not have, settings of something else, larger than the file …
        return Facts()
    if width not in (None, vit.embed_dims):
        return Facts()
    rope = getattr(vit.timm_model, 'rope', None)
    beside = Settings(source, vision={'rope_theta': getattr(rope, 'temperature', None)})
    return Facts(heads_of(vit), activation_of(vit), grid_of(vit), source, eps_of(vit), None, beside)


def from_sidecar(file: CheckpointFile, names: Mapping[str, int], width: int) -> Facts:
    """Facts in the ``config.json`` of Hugging Face, timm or OpenCLIP beside a file."""
    beside = settings_beside(file.path)
    vision = beside.vision
    if beside.model:
        named = named_model(beside)
        with bounded_by(file.path, named):
            found = from_timm(named, beside.source, width)
        if found.source:
            return found._replace(pixels=beside.pixels, beside=beside)
    heads = _whole(vision.get('num_attention_heads')) or by_name(beside.model, names)
    activation = 'silu' if vision.get('use_swiglu_ffn') else named_activation(vision.get('hidden_act'))
    return Facts(heads, activation,
                 _grid(vision.get('image_size'), vision.get('patch_size')), beside.source,
                 _eps(vision.get('layer_norm_eps')), beside.pixels, beside)


def from_arguments(content: object, names: Mapping[str, int]) -> Facts:
    """Facts in the arguments of a training, or in the name of an architecture."""
    if not isinstance(content, dict):
        return Facts()
    if heads := by_name(content.get('arch'), names):
        return Facts(heads=heads, source=f'arch={content["arch"]!r}')
    for key in ARGUMENTS:
        fields = content[key].fields if isinstance(content.get(key), Inert) else content.get(key)
        if not isinstance(fields, Mapping):
            continue
        if heads := _whole(fields.get('num_heads')):
            return Facts(heads=heads, source=f'{key}.num_heads')
        for name in ('model', 'arch', 'model_name', 'architecture'):
            if heads := by_name(fields.get(name), names):
                return Facts(heads=heads, source=f'{key}.{name}={fields[name]!r}')
    return Facts()


def by_name(name: object, heads: Mapping[str, int]) -> int | None:
    """Number of heads of a named ViT."""
    match = NAMED.search(name) if isinstance(name, str) else None
    return heads.get(match[1]) if match else None


def named_activation(name: object) -> str | None:
    """The name by which activations are compared."""
    return ACTIVATIONS.get(name.lower(), name.lower()) if isinstance(name, str) else None


def heads_of(backbone: nn.Module) -> int | None:
    """Number of heads of a backbone's first attention."""
    found = (getattr(module, 'num_heads', None) for module in backbone.modules())
    return next((heads for heads in found if type(heads) is int), None)


def activation_of(backbone: nn.Module) -> str | None:
    """Activation of a backbone's feed-forward parts."""
    for module in backbone.modules():
        if isinstance(module, nn.GELU):
            return 'gelu_tanh' if module.approximate == 'tanh' else 'gelu'
        if type(module).__name__ in MODULES:
            return MODULES[type(module).__name__]
    return None


def eps_of(backbone: nn.Module) -> float | None:
    """Eps of a backbone's first layer norm."""
    return next((module.eps for module in backbone.modules() if isinstance(module, nn.LayerNorm)), None)


def _eps(value: object) -> float | None:
    return value if isinstance(value, float) and 0 < value < 1 else None


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 < value < 10**6 else None


def _grid(size: object, patch: object) -> Grid | None:
    sizes, patches = ([value, value] if _whole(value) else list(value) if isinstance(value, list | tuple) else []
                      for value in (size, patch))
    if len(sizes) != 2 or len(patches) != 2 or not all(map(_whole, (*sizes, *patches))):
        return None
    return sizes[0] // patches[0], sizes[1] // patches[1]
