"""Rematerialisation policies by name: what a backward pass finds kept, and what it computes again."""

from collections.abc import Callable

import jax

from talkverse_jax.ops.names import Remat

ATTENTION = "attention"  # the name that flash attention gives what its gradient takes of it
UPDATE = "update"  # and a stage of a block what it adds to the stream

_POLICIES = {
    "stages": jax.checkpoint_policies.save_only_these_names(ATTENTION, UPDATE),
    "attention": jax.checkpoint_policies.save_only_these_names(ATTENTION),
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def rematerialised(block: Callable, policy: Remat) -> Callable:
    """The block under a policy.

    Args:
      policy: `none` keeps every value; `dots` the results of the linear layers and computes norms, activations
        and attention again; `attention` the block's input and what flash attention (on TPUs) found, in 16 bits;
        `stages` besides what each stage adds to the stream; `full` nothing but the block's input.
    """
    return block if policy == "none" else jax.checkpoint(block, policy=_POLICIES[policy])
