"""Settings in JSON files beside weights, and defaults of each family of encoders."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mm_graft.checkpoints.folders import weights_file
from mm_graft.files import read_small_json

Pixels = tuple[tuple[float, ...], tuple[float, ...]]
LIMIT = 2**20
VISION = ('vision_config', 'image_config', 'backbone_config', 'encoder')  # where a larger model's has its images'
LEFT_OUT = ('img_size', 'in_chans', 'num_classes', 'pretrained')  # of timm's arguments, what is not the encoder's
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


class Family(NamedTuple):
    """Defaults of a family for facts that no tensor stores."""

    #: mean and standard deviation of each channel (RGB, in 0…1) by which its images are normalized
    pixels: Pixels
    eps: float = 1e-6  #: of its layer norms
    activation: str | None = 'gelu'  #: of its feed-forward parts; None where files differ, so that one must say it


# by Hugging Face's `model_type`, and by layout; the defaults of transformers' configuration classes
FAMILIES: dict[str, Family] = {name: family for names, family in (
    (('vit', 'beit', 'hf-vit', 'hf-beit', 'hf-beit-mim'), Family(HALF, 1e-12)),
    (('vit_mae', 'deit'), Family(IMAGENET, 1e-12)),
    (('ijepa', 'dinov2', 'dinov2_with_registers', 'hf-dinov2', 'torchvision'), Family(IMAGENET)),
    (('dinov3_vit', 'hf-dinov3', 'dinov3', 'timm-dinov3'), Family(IMAGENET, 1e-5)),
    (('clip', 'clip_vision_model'), Family(OPENAI, 1e-5, 'quick_gelu')),
    (('hf-clip', 'open-clip'), Family(OPENAI, 1e-5, None)),
    (('siglip', 'siglip_vision_model', 'siglip2', 'siglip2_vision_model', 'hf-siglip'),
     Family(HALF, 1e-6, 'gelu_tanh'))) for name in names}


@dataclass(frozen=True)
class Settings:
    """The settings in the JSON files beside weights; None where not stated."""

    source: str = ''  #: the file that says it
    family: str | None = None  #: Hugging Face's ``model_type``
    model: str | None = None  #: timm's name of the architecture
    arguments: Mapping[str, object] = field(default_factory=dict)  #: further ones of timm's model
    #: the part of the config that is about the encoder of images
    vision: Mapping[str, object] = field(default_factory=dict)
    pixels: Pixels | None = None  #: mean and standard deviation of each channel


def settings_beside(path: str | Path) -> Settings:
    """What lies beside the weights of a file or folder: transformers', timm's or OpenCLIP's ``config.json``.

    Values that are not of the kind they should be count as absent; nothing is executed.
    """
    try:
        folder = weights_file(path).parent
    except ValueError:
        return Settings()
    for name, form in (('config.json', from_hub), ('open_clip_config.json', from_open_clip)):
        if config := _read(folder / name):
            return form(config, _read(folder / 'preprocessor_config.json'), str(folder / name))
    return Settings()


def from_hub(config: dict, images: dict, source: str) -> Settings:
    """Of transformers' or timm's ``config.json``, and of transformers' ``preprocessor_config.json``."""
    if isinstance(config.get('architecture'), str):
        trained = config.get('pretrained_cfg') if isinstance(config.get('pretrained_cfg'), dict) else config
        size = trained.get('input_size')
        vision = {'image_size': list(size[1:]) if isinstance(size, list) else None}
        return Settings(source, None, config['architecture'], as_dict(config.get('model_args')), vision,
                        pixels_of(trained.get('mean'), trained.get('std')))
    vision = next((part for key in VISION if (part := as_dict(config.get(key)))), config)
    return Settings(source, str(config.get('model_type', '')) or None, None, {}, vision,
                    pixels_of(images.get('image_mean'), images.get('image_std')))


def from_open_clip(config: dict, images: dict, source: str) -> Settings:
    """Of OpenCLIP's ``open_clip_config.json``."""
    model = as_dict(config.get('model_cfg')) or config
    vision, pixels = as_dict(model.get('vision_cfg')), as_dict(config.get('preprocess_cfg'))
    width, head = vision.get('width', 768), vision.get('head_width', 64)
    own = 'timm_model_name' not in vision
    stated = {'image_size': vision.get('image_size', 224), 'patch_size': vision.get('patch_size')}
    if own and isinstance(width, int) and isinstance(head, int) and head:
        stated |= {'num_attention_heads': width // head, 'layer_norm_eps': 1e-5,
                   'hidden_act': 'quick_gelu' if model.get('quick_gelu') else 'gelu'}
    return Settings(source, None, vision.get('timm_model_name'), {}, stated,
                    pixels_of(pixels.get('mean'), pixels.get('std')))


def named_model(beside: Settings) -> dict:
    """Settings of ``mm_graft.TimmViT`` for the timm model that a file names."""
    size = beside.arguments.get('img_size') or beside.vision.get('image_size')
    arguments = {name: value for name, value in beside.arguments.items() if name not in LEFT_OUT}
    return {'type': 'mm_graft.TimmViT', 'model_name': beside.model,
            **({'img_size': side_or_sides(size)} if size else {}), **arguments}


def side_or_sides(size: int | Iterable[int]) -> int | tuple[int, ...]:
    """The side of a square image, or its height and width."""
    sides = (size, ) if isinstance(size, int) else tuple(size)
    return sides[0] if len(set(sides)) == 1 else sides


def _read(path: Path) -> dict:
    try:
        return as_dict(read_small_json(path, LIMIT)) if path.is_file() else {}
    except (ValueError, OSError):
        return {}


def as_dict(value: object) -> dict:
    """The value, or nothing of one that is no dict."""
    return value if isinstance(value, dict) else {}


def pixels_of(mean: object, std: object) -> Pixels | None:
    """Mean and standard deviation of each channel; None where they are not that."""
    sides = [tuple(map(float, side)) for side in (mean, std)
             if isinstance(side, list | tuple) and side and all(type(value) in (int, float) for value in side)]
    return tuple(sides) if len(sides) == 2 and len(sides[0]) == len(sides[1]) and min(sides[1]) > 0 else None
