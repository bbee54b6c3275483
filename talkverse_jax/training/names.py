"""Names of choices that a person has of training. Imports no JAX."""

from typing import Literal

StrategyName = Literal["none", "framepack", "minimal", "lora", "moderate", "aggressive", "full"]
OptimizerName = Literal["adamw", "adafactor"]
ScheduleName = Literal["constant", "cosine", "restarts"]
Beginning = Literal["weights", "adapter", "all"]
