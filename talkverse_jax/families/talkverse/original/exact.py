"""The original's modules as a float32 CPU program: what ties them to a GPU or to bfloat16 is replaced."""

import contextlib
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch  # pyright: ignore[reportMissingImports]  # of the original's own environment

from talkverse_jax.core.errors import UserError


def load(name: str) -> types.ModuleType:
    """Import a module of the clone, and make its attention exact.

    Raises:
      UserError: a package that the module needs is not installed.
    """
    try:
        # One of them asks for the current GPU while it is being defined.
        with mock.patch.object(torch.cuda, "current_device", return_value=0):
            module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name}: {name} of the original needs it; install the original's requirements") from None
    for loaded in [m for key, m in sys.modules.items() if key.startswith("wan.")]:
        if hasattr(loaded, "flash_attention"):
            setattr(loaded, "flash_attention", _attention)  # noqa: B010 (a module has no such attribute)
    return module


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, k_lens: Any = None, **_: Any) -> torch.Tensor:
    """Attention over [B, L, N, K] in the dtype of its inputs; the original's rounds to bfloat16."""
    if k_lens is not None and any(int(length) != k.shape[1] for length in k_lens):
        raise ValueError("sequences of one batch differ in length; run them one by one")
    out = torch.nn.functional.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)))
    return out.transpose(1, 2)


@contextlib.contextmanager
def without_storage() -> Iterator[None]:
    """Parameters of modules built inside take no memory and no time to initialise; other tensors are real."""
    register = torch.nn.Module.register_parameter

    def register_meta(module: torch.nn.Module, name: str, value: torch.Tensor | None) -> None:
        if value is not None:
            value = torch.nn.Parameter(value.detach().to("meta"), requires_grad=False)
        register(module, name, value)

    with mock.patch.object(torch.nn.Module, "register_parameter", register_meta):
        yield
