"""Names of choices that a person has, apart from the code that they choose: this imports no JAX."""

from typing import Literal

KernelName = Literal["auto", "flash", "splash", "cudnn", "xla"]
Remat = Literal["none", "dots", "stages", "attention", "full"]

# What is multiplied where a kernel is stored as int8: the kernel in floats, or int8 with activations rounded to int8.
Products = Literal["float", "int8"]
