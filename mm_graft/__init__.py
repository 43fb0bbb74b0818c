"""Layer-wise self-supervised pre-training for the OpenMMLab ecosystem.

Which objective trains which layers, how fast, and until when: each part is a registered component that any
MMEngine config can name by the prefix ``mm_graft.``; nothing has to be imported by hand.

One name per idea, in code, configs and logs:

==============  ================================================================================================
``mask``        boolean, **True = hidden** from the encoder
``depth``       the integer of :mod:`mm_graft.depth`: stem 0, block ``i`` → ``i + 1``, everything after → last
``stage``       an equal share of the blocks; the first also holds the stem, the last everything after the blocks
``num_patches`` tokens of an image without the class token
``anchor``      recorded weights that a term of the loss pulls towards
``frozen``      out of the optimizer step *and* out of autograd
==============  ================================================================================================
"""

from mmengine.config import utils as _config_utils

from .version import __version__

__all__ = ['__version__']


# mmengine resolves `_base_ = 'mmseg::…'` through a table of distribution names, in which the maintained forks have
# other names and plugins do not stand. The import name works for all of them.
_config_utils.MODULE2PACKAGE.update(mm_graft='mm_graft', mmseg='mmseg')
