"""Names as the module itself has them, whatever wrapped it, or parts of it, when it was saved."""

import re
from collections.abc import Iterable

# What torch.compile, FSDP and activation checkpointing put into the names below them, at any place
WRAPPER = re.compile(r'(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.')
# Trainings of DINOv2 keep blocks in chunks, but number them throughout: blocks.2.11.norm1 is that of block 11
CHUNK = re.compile(r'(?<![^.])blocks\.\d+\.(\d+)\.')


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Each name without wrappers and chunks; they stay where two names would become one."""
    result = {name: name for name in names}
    for pattern, text in ((WRAPPER, ''), (CHUNK, r'blocks.\1.')):
        shorter = {name: pattern.sub(text, plain) for name, plain in result.items()}
        if len(set(shorter.values())) == len(shorter):
            result = shorter
    return result
