import time

import jax
import jax.numpy as jnp

from talkverse_jax.core.stopwatch import Stopwatch


def test_phases_moments_and_the_total():
    stopwatch = Stopwatch("loading", "denoising")
    time.sleep(0.02)
    with stopwatch.phase("denoising"):
        jax.jit(lambda x: jnp.cos(x) @ x)(jnp.ones((3, 3)))
        stopwatch.mark("to_first_step")
    first = stopwatch.moments["to_first_step"]
    stopwatch.mark("to_first_step")
    assert stopwatch.moments["to_first_step"] == first >= 0.02
    seconds = stopwatch.rounded()
    assert list(seconds) == ["loading", "denoising", "compiling", "to_first_step", "total"]
    assert seconds["loading"] == 0 < seconds["compiling"] < seconds["to_first_step"] <= seconds["total"]
