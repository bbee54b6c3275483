"""What is wrong with a video, for those who go on without it."""

import traceback

from talkverse_jax.core.errors import UserError


class BadSample(Exception):
    """A sample that cannot be used.

    Attributes:
      reason: a few words that are the same for all samples of this fault; they are counted by it.
      detail: more about this one.
      trace: of an error that nobody foresaw.
    """

    def __init__(self, reason: str, detail: str = "", trace: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail, self.trace = reason, detail, trace

    @classmethod
    def of(cls, error: Exception) -> "BadSample":
        """Whatever a sample raised: it ends nothing but that sample."""
        if isinstance(error, BadSample):
            return error
        detail = str(error).partition("\n")[0]
        if isinstance(error, UserError):
            return cls("cannot be read", detail)
        return cls(type(error).__name__, detail, "".join(traceback.format_exception(error)))
