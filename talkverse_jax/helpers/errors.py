"""What a helper's endpoint, or its process, did wrong. Over HTTP these are 502 and 504; on the command line a line."""

from talkverse_jax.core.errors import UserError


class UpstreamError(UserError):
    """A helper gave no answer that can be used. The message has nothing of what the other side said."""


class UpstreamTimeout(UpstreamError):
    """It gave none in time."""
