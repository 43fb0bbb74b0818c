"""The authors' LocalMIM checkpoints, as pure functions from state dict to state dict."""

import re

import torch

from mm_graft.checkpoints.layouts import TIMM_TO_MMPRETRAIN, Converted, StateDict, rename

DECODER = re.compile(r'^decoder\.(\d+)\.(.+)$')
TAP_NORM = re.compile(r'^norm\.(\d+)\.(weight|bias)$')
HOG = re.compile(r'^hog_enc\.(\d+)\.conv\.(weight|bias)$')


def rename_localmim(name: str) -> str | None:
    """The name of an authors' parameter in `LocalMIM`; None for what has no counterpart of the same shape.

    Raises:
        ValueError: the name fits no rule.
    """
    if match := DECODER.match(name):
        scale, rest = match.groups()
        block = rename(rest, TIMM_TO_MMPRETRAIN[2:-1])
        return f'neck.decoders.{scale}.' + (block.replace('layers.', 'blocks.', 1) if block else rest)
    if match := TAP_NORM.match(name):
        return 'backbone.tap_norms.{}.{}'.format(*match.groups())
    if HOG.match(name):
        return None
    new = rename(name, TIMM_TO_MMPRETRAIN[:-1])
    if new is None:
        raise ValueError(f'{name!r} is no tensor of a LocalMIM checkpoint; name the right kind')
    return f'backbone.{new}'


def localmim_to_mmpretrain(state_dict: StateDict) -> StateDict:
    """A whole `LocalMIM` model from the authors' state dict.

    Their decoders' position tables have a row of zeros for the class token, which is cut off; the Sobel kernels are
    not stored here; the random pairs of ``--hog_bias`` become ``target_generator.bias`` (scales, 2).

    Raises:
        ValueError: a tensor fits no rule.
    """
    converted, biases = {}, {}
    for name, tensor in state_dict.items():
        new = rename_localmim(name)
        if new is None:
            scale, kind = HOG.match(name).groups()
            if kind == 'bias':
                biases[int(scale)] = tensor
        else:
            converted[new] = tensor[:, 1:] if new.startswith('neck.') and new.endswith('.pos_embed') else tensor
    if biases:
        converted['target_generator.bias'] = torch.stack([biases[scale] for scale in sorted(biases)])
    return converted


def from_localmim(state_dict: StateDict, branch: str) -> Converted:
    """The encoder alone, with its tap norms. ``branch`` must be ``'base'``."""
    if branch != 'base':
        raise ValueError('LocalMIM checkpoints hold one encoder; use branch=base')
    result = Converted()
    for name, tensor in state_dict.items():
        new = rename_localmim(name)
        if new is not None and new.startswith('backbone.'):
            result.backbone[new.removeprefix('backbone.')] = tensor
        else:
            result.dropped[name] = 'HOG layer' if new is None else 'LocalMIM decoder'
    return result


def plain_encoder(converted: Converted) -> Converted:
    """The same for a ViT without taps: the norm of the last tap becomes the final norm, the others are dropped.

    The authors fine-tune without a final norm; frozen features want one.
    """
    taps = [int(name.split('.')[1]) for name in converted.backbone if name.startswith('tap_norms.')]
    last = f'tap_norms.{max(taps, default=0)}.'
    result = Converted(dropped=dict(converted.dropped))
    for name, tensor in converted.backbone.items():
        if name.startswith('tap_norms.') and not name.startswith(last):
            result.dropped[name] = 'norm of a lower tap'
        else:
            result.backbone[name.replace(last, 'ln1.')] = tensor
    return result
