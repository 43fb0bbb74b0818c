"""ConMIM's own checkpoints in mmpretrain's names.

The authors save the student as ``checkpoint-N.pth`` and the EMA teacher, which they fine-tune, as
``checkpoint_copy-N.pth`` (``TencentARC/ConMIM@4263955``); both have the same layout.
"""

import re

from mm_graft.checkpoints.layouts import TIMM_TO_MMPRETRAIN, Converted, StateDict, rename

ENCODER = (
    *TIMM_TO_MMPRETRAIN,
    (re.compile(r'^(mask_token|rel_pos_bias\.relative_position_bias_table)$'), r'\1'),
    (re.compile(r'^blocks\.(\d+)\.(gamma_[12]|attn\.[qv]_bias)$'), r'layers.\1.\2'),
    (re.compile(r'^blocks\.(\d+)\.attn\.relative_position_bias_table$'),
     r'layers.\1.attn.rel_pos_bias.relative_position_bias_table'),
    (re.compile(r'^fc_norm\.'), 'ln2.'),
)
PROJECTOR = tuple((re.compile(rf'^projectors\.{index}\.'), f'{name}.')
                  for index, name in enumerate(('fc0', 'bn0', 'relu', 'fc1', 'bn1', 'relu', 'fc2', 'bn2'))
                  if name != 'relu')
DROPPED = (
    (re.compile(r'^lm_head\.'), 'unused token classifier'),
    (re.compile(r'^projectors\.'), 'projector'),
    (re.compile(r'^head\.'), 'classifier'),
    (re.compile(r'.*relative_position_index$'), 'follows from the grid'),
)


def conmim_to_mmpretrain(state_dict: StateDict, branch: str = 'base') -> Converted:
    """The encoder of ConMIM's authors, pre-trained or fine-tuned, for ``mm_graft.ConMIMViT``.

    Raises:
        ValueError: ``branch`` is not ``'base'``, or a tensor fits no rule.
    """
    if branch != 'base':
        raise ValueError("ConMIM's authors keep the teacher in a file of its own, checkpoint_copy-N.pth; "
                         'name that file and use branch=base')
    result, unknown = Converted(), []
    for name, tensor in state_dict.items():
        reason = next((why for pattern, why in DROPPED if pattern.match(name)), None)
        new = rename(name, ENCODER)
        if reason is not None:
            result.dropped[name] = reason
        elif new is not None:
            result.backbone[new] = tensor
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(f'{len(unknown)} tensors fit no rule of ConMIM\'s layout, among them {unknown[:5]}; '
                         'name the right kind, or remove them from the file')
    return result


def conmim_projector(state_dict: StateDict) -> StateDict:
    """The authors' projector for the host's ``NonLinearNeck`` of three layers."""
    renamed = {rename(name, PROJECTOR): tensor for name, tensor in state_dict.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}
