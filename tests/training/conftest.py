"""Training's programs are large and run for a moment here: they are compiled without LLVM's costly passes."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def compiled_in_a_hurry():
    """A third less processor time for these tests. Processes they start do the same, so numbers stay equal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)
