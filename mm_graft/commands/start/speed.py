"""The fastest way to take the same steps on a GPU: which parts of it a plan uses, and why. Decided, never measured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

PARTS = ('views', 'class-token-only', 'compile', 'fused')  # what `--without` switches off
# seconds of one core (`mm_graft benchmark loader`): to decode 500 × 375 pixels, then for one crop or two views
DECODE, DECODED_SIDE = 0.0008, 375
VIEWS = {('mae', 'pillow'): 0.0019, ('mae', 'opencv'): 0.0008, ('graft', 'pillow'): 0.0103, ('graft', 'opencv'): 0.0024,
         ('graft', 'device'): 0.0002}
COMPILE_PAYS = 600  # seconds of training; the compiler takes up to a minute


@dataclass(frozen=True)
class Speed:
    """Parts of the fast path."""

    #: who makes what a training sees: 'pillow' and 'opencv' image by image on the cores, 'device' the two views of the
    #: graft in batches; MAE's one crop is OpenCV's then.
    views: str = 'pillow'
    class_token_only: bool = False  #: the graft's last block computes nothing but what its class token needs
    compiled: bool = False  #: blocks are compiled, after a check
    fused: bool = True  #: AdamW steps in one kernel

    def reader(self, stage: str) -> str:
        """Who makes what this training sees."""
        return 'opencv' if stage == 'mae' and self.views == 'device' else self.views

    def reading(self, stage: str, side: int, cores: int) -> float:
        """Seconds for a picture of this shorter side where all cores but one read."""
        views = VIEWS['mae' if stage == 'mae' else 'graft', self.reader(stage)]
        return (DECODE * (side / DECODED_SIDE) ** 2 + views) / max(1, cores - 1)


PLAIN = Speed()  # as the configs are


def choose_views(cores: int, side: int, compute: float, channels: bool, without: Collection[str]) -> tuple[Speed, str]:
    """Who makes the two views on a GPU, and why: OpenCV, which draws as the papers do, if the cores keep up.

    An image of two views costs the device ``compute`` seconds. Views of other ``channels`` than RGB only the device
    makes.
    """
    if channels:
        return Speed('device'), 'in batches; nothing else makes views of these channels'
    if 'views' in without:
        return Speed('pillow'), '--without views'
    needed = Speed('opencv').reading('graft', side, cores)
    if needed <= compute:
        return Speed('opencv'), f'{cores} cores make them as fast as the GPU takes them'
    return Speed('device'), f'in batches; with OpenCV {cores} cores need {1000 * needed:.2g} ms an image, the steps ' \
                            f'{1000 * compute:.2g} ms'


def choose_rest(speed: Speed, why_views: str, trained: float, given: bool,
                without: Collection[str]) -> tuple[Speed, list[tuple[str, str, str]]]:
    """All parts on a GPU once the views are chosen, and the lines that the plan has about them.

    The trainings should take ``trained`` seconds; a ``given`` encoder is a checkpoint's, which timm computes.
    """
    lean = 'class-token-only' not in without and not given
    compiled = 'compile' not in without and trained >= COMPILE_PAYS
    fused = 'fused' not in without
    off = {part: f'--without {part}' for part in without}
    lines = [
        ('views', speed.views, why_views),
        ('last block', 'class token only' if lean else 'all tokens', off.get(
            'class-token-only', 'timm computes this encoder' if given else 'exact, less work in the graft')),
        ('blocks', 'compiled' if compiled else 'as they are', off.get(
            'compile', 'if a first check finds the same numbers' if compiled else
            f'less than {COMPILE_PAYS // 60} minutes of training do not pay for compiling')),
        ('AdamW', 'fused' if fused else 'not fused', off.get('fused', 'one kernel for all weights'))]
    return replace(speed, class_token_only=lean, compiled=compiled, fused=fused), lines
