"""Values on the way through a model, for those who compare them with another program's."""

from jaxtyping import Array


class Taps:
    """Keeps values by name, in order of computation.

    Made within a jitted function, which returns `values`.

    Attributes:
      on: whether anything is kept.
    """

    def __init__(self, on: bool = True):
        self.on = on
        self.values: dict[str, Array] = {}

    def keep(self, name: str, value: Array) -> None:
        if self.on:
            self.values[name] = value


NO_TAPS = Taps(on=False)
