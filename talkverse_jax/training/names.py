"""Names of choices that a person has of training. Imports no JAX."""

from typing import Literal

StrategyName = Literal["none", "framepack", "minimal", "lora", "moderate", "aggressive", "full"]
ObjectiveName = Literal["flow_matching", "distil"]
OptimizerName = Literal["adamw", "adafactor"]
ScheduleName = Literal["constant", "cosine", "restarts"]
Beginning = Literal["weights", "adapter", "all"]
