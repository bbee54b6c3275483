"""Names of choices that a person has, apart from the code that they choose: this imports no JAX."""

from typing import Literal

KernelName = Literal["auto", "splash", "cudnn", "xla"]
Remat = Literal["none", "dots", "full"]
