"""Which number formats a device has in hardware."""

from functools import cache
from pathlib import Path

import torch

CPU_FLAGS = {'avx512_bf16', 'amx_bf16', 'bf16'}  # Intel and AMD, Intel's matrix units, Arm


@cache
def has_bfloat16(device: str) -> bool:
    """Whether devices of this type multiply bfloat16 in hardware; emulated, it is many times slower than float32."""
    if device == 'cuda':
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device != 'cpu':
        return False
    cpuinfo = Path('/proc/cpuinfo')
    words = cpuinfo.read_text().lower().split() if cpuinfo.is_file() else []
    return bool(CPU_FLAGS.intersection(words))
