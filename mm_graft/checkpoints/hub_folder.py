"""An encoder as a folder that Hugging Face's transformers load: ``config.json``, ``model.safetensors``, pixels."""

import json
from collections.abc import Callable
from pathlib import Path

from mm_graft.checkpoints.architecture import FIRST, count_blocks, family_of, hidden_width
from mm_graft.checkpoints.conversion import norms_behind, write_model
from mm_graft.checkpoints.detection import STEM
from mm_graft.checkpoints.facts import Facts
from mm_graft.checkpoints.files import SUFFIXES, Origin, naming, serialize
from mm_graft.checkpoints.layouts import Converted, StateDict, encoder_only
from mm_graft.checkpoints.names import TABLE
from mm_graft.checkpoints.resize import Grid
from mm_graft.checkpoints.settings import Family, Pixels
from mm_graft.files import atomic_folder, check_target_folder

FORMS = ('hf-dinov3', 'hf-dinov2', 'hf-beit', 'hf-clip', 'hf-vit', 'hf-siglip')  # the more particular first
WEIGHTS = 'model.safetensors'
ACTIVATIONS = {'gelu_tanh': 'gelu_pytorch_tanh'}


def write_hub_folder(origin: Origin, folder: str | Path, form: str = 'hf', grid: Grid | None = None) -> dict:
    """Write an encoder as a folder of transformers; returns the record of provenance, which is in the weights' header.

    The folder appears whole or not at all. ``form`` is a layout of Hugging
    Face's, ``'hf'`` the one that holds the encoder; positions are interpolated to ``grid``, if one is given.
    """
    folder = Path(folder)
    if folder.exists() or folder.suffix in SUFFIXES:
        what = 'there already' if folder.exists() else 'the name of a file'
        raise ValueError(f'{folder} is {what}; name a new folder')
    check_target_folder(folder)
    model, record, facts = origin.read(grid)
    with naming(origin.path):
        known = grid or (tuple(record['grid']) if record['grid'] else facts.grid)
        form = choose_form(model) if form == 'hf' else form
        result = write_model(model, form)
        family = family_of(facts, record['from'], encoder_only(model).backbone)
        config = config_of_form(form, model, facts, known, family)
        pixels = pixels_config(facts.pixels or family.pixels, config)
    record |= {'to': form, 'dropped': {**record['dropped'], **result.dropped}}
    texts = {'preprocessor_config.json': pixels, 'config.json': config}
    with atomic_folder(folder) as part:
        (part / WEIGHTS).write_bytes(serialize(result.backbone, record, form, '.safetensors'))
        for name, content in texts.items():
            (part / name).write_text(json.dumps(content, indent=2) + '\n')
    return record


def choose_form(model: Converted) -> str:
    """The layout of Hugging Face's that holds an encoder."""
    if norms_behind(model.backbone):
        raise ValueError("transformers has no encoder with post-norm blocks")
    reasons = []
    for form in FORMS:
        try:
            write_model(model, form)
            return form
        except ValueError as error:
            reasons.append(f'{form}: {error}')
    raise ValueError(f'no encoder of transformers holds this one ({reasons[-1]}); choose timm or mmpretrain')


def config_of_form(form: str, model: Converted, facts: Facts, grid: Grid | None, family: Family) -> dict:
    """The ``config.json`` of an encoder of mmpretrain's names; where nothing is known, the default of its family."""
    encoder = encoder_only(model).backbone
    if form not in SPECIAL:
        raise ValueError(f'{form} is written as a file of tensors alone; choose one of {sorted(SPECIAL)}, or hf')
    own, special = SPECIAL[form](encoder, facts)
    activation = facts.activation or ('silu' if 'use_gated_mlp' in special else family.activation)
    if facts.heads is None or activation is None or grid is None:
        raise ValueError("config.json needs the encoder's heads, activation and image size, not all of which the "
                         'source states; put a config.json beside it, or convert a run\'s checkpoint')
    width, channels, patch, _ = encoder[STEM].shape
    return {
        'model_type': own, 'hidden_size': width, 'num_channels': channels, 'patch_size': patch,
        'image_size': patch * grid[0] if grid[0] == grid[1] else [patch * count for count in grid],
        'num_hidden_layers': count_blocks(encoder),
        'num_attention_heads': facts.heads, 'intermediate_size': hidden_width(encoder),
        'layer_norm_eps': facts.eps or family.eps,
        'hidden_act': 'gelu' if special.get('use_swiglu_ffn') else ACTIVATIONS.get(activation, activation), **special}


def _vit(encoder: StateDict, facts: Facts) -> tuple[str, dict]:
    own, title = ('deit', 'DeiTModel') if 'dist_token' in encoder else (
        'vit', 'ViTModel') if 'cls_token' in encoder else ('ijepa', 'IJepaModel')
    return own, {'architectures': [title], 'qkv_bias': f'{FIRST}attn.qkv.bias' in encoder}


def _dinov2(encoder: StateDict, facts: Facts) -> tuple[str, dict]:
    width, gated = len(encoder[STEM]), f'{FIRST}ffn.w12.weight' in encoder
    registers = {'num_register_tokens': encoder['reg_token'].shape[1]} if 'reg_token' in encoder else {}
    hidden = hidden_width(encoder) // (2 if gated else 1)
    ratio = next((ratio for ratio in range(1, 33) if hidden_of(width * ratio, gated) == hidden), None)
    if ratio is None:
        raise ValueError(f"transformers' DINOv2 has no mlp_ratio of which {hidden} follows from a width of {width}; "
                         'choose timm or mmpretrain')
    own, title = ('dinov2_with_registers', 'Dinov2WithRegistersModel') if registers else ('dinov2', 'Dinov2Model')
    return own, {'architectures': [title], 'mlp_ratio': ratio,
                 'use_swiglu_ffn': gated, 'use_mask_token': 'mask_token' in encoder, **registers,
                 'qkv_bias': f'{FIRST}attn.qkv.bias' in encoder}


def hidden_of(product: int, gated: bool) -> int:
    """The hidden width that transformers' DINOv2 makes of width times ratio: 2/3 of it where it is gated, by eights."""
    return (int(product * 2 / 3) + 7) // 8 * 8 if gated else product


def _dinov3(encoder: StateDict, facts: Facts) -> tuple[str, dict]:
    gated = {'use_gated_mlp': True} if f'{FIRST}ffn.fc1_g.weight' in encoder else {}
    biased = f'{FIRST}attn.q_bias' in encoder
    return 'dinov3_vit', {
        'architectures': ['DINOv3ViTModel'], 'num_register_tokens': encoder['reg_token'].shape[1], **gated,
        'query_bias': biased, 'key_bias': False, 'value_bias': biased, 'proj_bias': True,
        'mlp_bias': f'{FIRST}ffn.layers.1.bias' in encoder,
        'rope_theta': float(facts.beside.vision.get('rope_theta') or 100)}


def _beit(encoder: StateDict, facts: Facts) -> tuple[str, dict]:
    return 'beit', {
        'architectures': ['BeitModel'], 'use_mean_pooling': 'ln2.weight' in encoder,
        'use_mask_token': 'mask_token' in encoder, 'use_absolute_position_embeddings': 'pos_embed' in encoder,
        'use_relative_position_bias': f'{FIRST}attn.rel_pos_bias.{TABLE}' in encoder,
        'use_shared_relative_position_bias': f'rel_pos_bias.{TABLE}' in encoder}


def _clip(encoder: StateDict, facts: Facts) -> tuple[str, dict]:
    return 'clip_vision_model', {'architectures': ['CLIPVisionModel']}


def _siglip(encoder: StateDict, facts: Facts) -> tuple[str, dict]:
    return 'siglip_vision_model', {'architectures': ['SiglipVisionModel'],
                                   'vision_use_head': 'attn_pool.latent' in encoder}


SPECIAL: dict[str, Callable[[StateDict, Facts], tuple[str, dict]]] = {
    'hf-vit': _vit, 'hf-beit': _beit, 'hf-dinov2': _dinov2, 'hf-dinov3': _dinov3, 'hf-clip': _clip,
    'hf-siglip': _siglip}


def pixels_config(pixels: Pixels, config: dict) -> dict:
    """The ``preprocessor_config.json``: values in 0…1 of images of the encoder's side, minus mean, by std."""
    (mean, std), size, channels = pixels, config['image_size'], config['num_channels']
    if len(mean) != channels:
        raise ValueError(f'it is for images of {channels} channels, by whose mean and std it does not say they are '
                         "normalized; convert a run's checkpoint, or to timm")
    height, width = (size, size) if isinstance(size, int) else size
    return {'do_resize': True, 'size': {'height': height, 'width': width}, 'do_rescale': True,
            'rescale_factor': 1 / 255, 'do_normalize': True, 'image_mean': list(mean), 'image_std': list(std),
            'image_processor_type': 'ViTImageProcessor'}
