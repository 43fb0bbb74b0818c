"""The authors' LocalMIM checkpoints, as pure functions from state dict to state dict, both ways."""

import re
from dataclasses import replace

import torch
from torch import Tensor

from mm_graft.checkpoints.forms import behind_zeros
from mm_graft.checkpoints.layouts import Converted, Layout, StateDict, encoder_names
from mm_graft.checkpoints.names import BLOCK, STEM, NameMap, below

HOG = re.compile(r'^hog_enc\.(\d+)\.conv\.(weight|bias)$')
DECODER_TABLE = re.compile(r'^(?:neck\.decoders|decoder)\.(\d+)\.pos_embed$')
HOG_BIAS = 'target_generator.bias'


def sobel_kernels() -> Tensor:
    """The fixed kernels of the authors' HOG layers, (2, 1, 3, 3): along x, along y."""
    x = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    return torch.stack([x, x.T])[:, None]


def _read_constants(state_dict: StateDict, model: StateDict) -> None:
    """Cut the class token's row of zeros off the decoders' tables; stack the random pairs of ``--hog_bias``."""
    for name in [name for name in model if DECODER_TABLE.match(name)]:
        model[name] = model[name][:, 1:]
    biases = {int(match.group(1)): tensor for name, tensor in state_dict.items()
              if (match := HOG.match(name)) and match.group(2) == 'bias'}
    if biases:
        model[HOG_BIAS] = torch.stack([biases[scale] for scale in sorted(biases)])


def _write_constants(model: StateDict, theirs: StateDict) -> None:
    """The inverse of :func:`_read_constants`, with the Sobel kernels, which this package does not store."""
    for name in [name for name in theirs if DECODER_TABLE.match(name)]:
        scale = int(DECODER_TABLE.match(name).group(1))
        theirs[name] = behind_zeros(theirs[name])
        theirs[f'hog_enc.{scale}.conv.weight'] = sobel_kernels()
        if HOG_BIAS in model:
            theirs[f'hog_enc.{scale}.conv.bias'] = model[HOG_BIAS][scale].clone()


LOCALMIM = Layout(
    'LocalMIM',
    NameMap((
        *encoder_names(pairs=(*STEM, ('norm.{i}.{t}', 'tap_norms.{i}.{t}'))),
        *below('decoder.{i}.blocks.{j}.', 'neck.decoders.{i}.blocks.{j}.', BLOCK),
        *((f'decoder.{{i}}.{part}', f'neck.decoders.{{i}}.{part}')
          for part in ('mask_token', 'pos_embed', 'embed.{t}', 'norm.{t}', 'pred.{t}')))),
    ((HOG, 'HOG layer'),),
    neck='LocalMIM decoder',
    shown_by=(r'norm\.\d+\.', ),
    after_read=_read_constants,
    after_write=_write_constants)


def plain_encoder(converted: Converted, prefix: str = '') -> Converted:
    """The same for a ViT without taps: the norm of the last tap becomes the final norm, the others are dropped.

    The authors fine-tune without a final norm; frozen features want one.
    """
    start = f'{prefix}tap_norms.'
    taps = [int(name[len(start):].split('.')[0]) for name in converted.backbone if name.startswith(start)]
    last = f'{start}{max(taps, default=0)}.'
    result = replace(converted, backbone={}, dropped=dict(converted.dropped))
    for name, tensor in converted.backbone.items():
        if name.startswith(start) and not name.startswith(last):
            result.dropped[converted.sources.get(name, name)] = 'norm of a lower tap'
        else:
            result.backbone[name.replace(last, f'{prefix}ln1.')] = tensor
    return result
