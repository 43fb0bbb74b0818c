"""The host's SimMIM Swin, readable after every stage."""

from collections.abc import Sequence

from mmpretrain.models import SimMIMSwinTransformer
from mmpretrain.models.utils import build_norm_layer

from mm_graft.registry import MODELS


@MODELS.register_module()
class LocalMIMSwin(SimMIMSwinTransformer):
    """A Swin that replaces hidden patches by a mask token and is read after its stages, patch merging included.

    The host's class can only be read after its last stage: its masked pass returns maps after merging, while the norms
    of the other stages are built for the width before it. Here each norm has the width of what leaves its stage (2C,
    4C, 8C, 8C), the taps of LocalMIM's Swin (Huawei's Efficient-Computing@225ddd2, ``LocalMIM/Swin``). That one drops
    hidden windows; this one keeps them, at more cost and without its grouping of windows.

    Args:
        out_indices: stages that are read.
        norm_cfg: of the norm after each.
    """

    def __init__(self, *args, out_indices: Sequence[int] = (0, 1, 2, 3), norm_cfg: dict | None = None, **kwargs):
        super().__init__(*args, out_indices=tuple(out_indices), **kwargs)
        # for the host's pass over whole images
        self.out_after_downsample = True
        self.num_features = [stage.out_channels for stage in self.stages]
        for stage in self.out_indices:
            setattr(self, f'norm{stage}', build_norm_layer(norm_cfg or {'type': 'LN'}, self.num_features[stage]))
