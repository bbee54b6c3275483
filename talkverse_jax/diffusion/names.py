"""Names of choices that a person has, apart from the code that they choose: this imports nothing."""

from typing import Literal

SolverName = Literal["unipc", "dpm++", "euler", "renoise"]
