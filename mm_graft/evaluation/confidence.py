"""How sure an accuracy is: the binomial interval of Wilson."""

from math import sqrt
from statistics import NormalDist


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval (fractions) that holds the true accuracy with the given confidence, for ``correct`` of ``total`` images.

    Wilson's score interval: with p = correct / total and z the normal quantile of (1 + confidence) / 2,

        (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n).

    It stays inside [0, 1] and keeps a width at p = 0 and p = 1. It speaks of the choice of test images only, not of the
    spread over training seeds.

    Raises:
        ValueError: no images, a count outside [0, total], or a confidence outside (0, 1).
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f'correct={correct} of total={total} is no share; give 0 <= correct <= total and total >= 1')
    if not 0 < confidence < 1:
        raise ValueError(f'confidence={confidence} lies outside (0, 1); 0.95 is usual')
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = correct / total
    centre = share + z * z / (2 * total)
    spread = z * sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    # At the ends the exact bounds are 0 and 1; rounding would miss them by 1e-17.
    low = 0.0 if correct == 0 else (centre - spread) / scale
    return low, 1.0 if correct == total else (centre + spread) / scale
