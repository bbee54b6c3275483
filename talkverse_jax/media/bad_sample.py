"""What is wrong with a video, for those who go on without it."""


class BadSample(Exception):
    """A sample that cannot be used.

    Attributes:
      reason: a few words that are the same for all samples of this fault; they are counted by it.
      detail: more about this one.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail
