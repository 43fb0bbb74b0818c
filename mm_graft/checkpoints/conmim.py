"""ConMIM's own checkpoints in mmpretrain's names.

The authors save the student as ``checkpoint-N.pth`` and the EMA teacher, which they fine-tune, as
``checkpoint_copy-N.pth`` (``TencentARC/ConMIM@4263955``); both have the same layout.
"""

from mm_graft.checkpoints.layouts import NAME_INDEX, Converted, Layout, StateDict, encoder_names, encoder_only, pattern
from mm_graft.checkpoints.names import BEIT, NameMap, mlp

PROJECTOR = NameMap(mlp('projectors.', ''))
CONMIM = Layout(
    'ConMIM',
    NameMap((*encoder_names(pairs=(*BEIT, ('mask_token', 'mask_token'))), *mlp('projectors.', 'neck.'))),
    (pattern('lm_head.', 'unused token classifier'), pattern('head.', 'classifier'), NAME_INDEX))


def conmim_to_mmpretrain(state_dict: StateDict) -> Converted:
    """The encoder of ConMIM's authors, pre-trained or fine-tuned, for ``mm_graft.ConMIMViT``.

    Raises:
        ValueError: a tensor fits no rule.
    """
    return encoder_only(CONMIM.read(state_dict))


def conmim_projector(state_dict: StateDict) -> StateDict:
    """The authors' projector for the host's ``NonLinearNeck`` of three layers."""
    renamed = {PROJECTOR.to_host(name): tensor for name, tensor in state_dict.items()}
    return {name: tensor for name, tensor in renamed.items() if name is not None}
