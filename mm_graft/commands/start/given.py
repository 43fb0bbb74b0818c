"""The encoder in a checkpoint, as far as its tensors and what lies beside them tell it."""

import torch
from mmengine.registry import MODELS, init_default_scope

from mm_graft.commands.start.plan import Encoder
from mm_graft.encoders import patch_projection
from mm_graft.pretrained import guess_config


def read_encoder(path: str) -> Encoder:
    """The ViT in a file of any known layout, at the image size that its positions are for.

    Raises:
        mm_graft.checkpoints.CheckpointError: the file holds no ViT, or does not say what must be known.
    """
    init_default_scope('mmpretrain')
    model = guess_config(path).model
    backbone = {**model.backbone, 'out_type': 'cls_token'}
    with torch.device('meta'):
        vit = MODELS.build({**backbone, 'out_type': 'raw'})
    if not vit.num_extra_tokens:
        backbone['out_type'] = 'avg_featmap'
    patch = patch_projection(vit).kernel_size[0]
    return Encoder(f'ViT of {vit.num_layers} blocks of width {vit.embed_dims}', vit.embed_dims, vit.num_layers,
                   backbone.get('num_heads', 0), patch * min(vit.patch_resolution), patch, backbone,
                   {key: list(model.data_preprocessor[key]) for key in ('mean', 'std')})
