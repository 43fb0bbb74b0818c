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

__all__ = ['__version__', 'load_encoder']


def load_encoder(path: str, config: str | None = None, branch: str = 'base'):  # torch is imported when it is called
    """The encoder in a checkpoint as a plain module: images → class and patch tokens; see :mod:`mm_graft.pretrained`.

    ``mm_graft.load_encoder('epoch_100.pth')(images).class_token`` for images (B, 3, H, W) in 0…1, RGB.
    """
    from .pretrained import load_pretrained
    return load_pretrained(path, config, branch)
