"""Which steps leave the blocks out: TeaCache (Liu et al. 2024, arXiv:2411.19108).

How far a step's modulation is from that of the step before tells how much the blocks' result will differ. As the
modulation depends on the timestep alone, all branches of guidance and all clips skip the same steps, and the host knows
them before the first one.
"""

import numpy as np
from jaxtyping import Float

FIRST_STEPS = 5  # always run

# How much the result differs, by how much the modulation does: polynomials, highest power first.
_COEFFICIENTS = {
    False: (2.57151496e5, -3.54229917e4, 1.40286849e3, -13.5890334, 0.132517977),  # sizes of about 640x640
    True: (8.10705460e3, 2.13393892e3, -372.934672, 16.6203073, -0.0417769401),  # of about 960x960
}


def make_skips(modulation: Float[np.ndarray, "steps ..."], threshold: float, is_720: bool) -> list[bool]:
    """For each step whether it uses what the last full step left.

    Args:
      modulation: of all steps, see `TimeEmbedding`.
      threshold: how much the results may differ, in all, until a step is run again.
      is_720: whether the sizes are the larger ones.
    """
    skips, differs = [], 0.0
    for number in range(len(modulation)):
        if number >= FIRST_STEPS:
            before = modulation[number - 1]
            change = np.abs(modulation[number] - before).mean() / np.abs(before).mean()
            differs += float(np.polyval(_COEFFICIENTS[is_720], float(change)))
        skip = number >= FIRST_STEPS and differs < threshold
        differs = differs if skip else 0.0
        skips.append(skip)
    return skips
