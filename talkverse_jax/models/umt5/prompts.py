"""How long a text for the encoder may be. Imports no JAX."""

from typing import Any

from talkverse_jax.core.errors import UserError

# Its longest token has 16 characters, and 512 tokens are kept, which cannot hold more than 8,192. The time of cleaning
# can grow with the square of the length: 0.24 s for the worst text of this length, 28 s for one of 80,000 (2026-11-27).
LONGEST_PROMPT = 10_000  # characters


def check_prompts(options: Any, *names: str) -> None:
    """Check that texts of the options are not longer than the encoder could use.

    Raises:
      UserError: one is.
    """
    for name in names:
        if (length := len(getattr(options, name))) > LONGEST_PROMPT:
            most = f"{LONGEST_PROMPT:,} or fewer (512 tokens count, about 2,000 characters)"
            raise UserError(f"has {length:,} characters; give {most}", field=name)
