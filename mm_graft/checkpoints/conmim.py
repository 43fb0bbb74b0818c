"""ConMIM's own checkpoints in mmpretrain's names.

The authors save the student as ``checkpoint-N.pth`` and the EMA teacher, which they fine-tune, as
``checkpoint_copy-N.pth`` (``TencentARC/ConMIM@4263955``); both have the same layout.
"""

from mm_graft.checkpoints.layouts import NAME_INDEX, Layout, encoder_names, pattern
from mm_graft.checkpoints.names import BEIT, NameMap, mlp

CONMIM = Layout(
    'ConMIM',
    NameMap((*encoder_names(pairs=(*BEIT, ('mask_token', 'mask_token'))), *mlp('projectors.', 'neck.'))),
    (pattern('lm_head.', 'unused token classifier'), pattern('head.', 'classifier'), NAME_INDEX),
    shown_by=(r'blocks\.\d+\.attn\.q_bias', r'(rel_pos_bias|blocks\.\d+\.attn)\.relative_position_bias_table'))
