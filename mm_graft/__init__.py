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

from .version import __version__

__all__ = ['__version__']
