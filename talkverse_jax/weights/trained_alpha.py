"""The alpha of a file's LoRA pairs, wherever the program that wrote it has put it."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.asked import PEFT_CONFIG, TrainedFile
from talkverse_jax.weights.trained_names import Spelled

RANK, ALPHA = "lora_rank", "lora_alpha"  # in the headers of our own exports
_DIFFUSERS = "lora_adapter_metadata"
_PEFT_PREFIX = "base_model.model."
_TENSORS = "its .alpha tensors"


@dataclasses.dataclass(frozen=True)
class Alphas:
    """What a file says besides its tensors.

    Attributes:
      source: of it, for messages; None: it says nothing.
      alpha: of every layer that no pattern fits.
      patterns: alphas of other layers, by the end of their names as the file writes them, a regular expression.
      root: whether the product counts alpha/sqrt(r) times (rsLoRA) instead of alpha/r.
      beside: the file that says it, where it is another one.
    """

    source: str | None = None
    alpha: float | None = None
    patterns: Mapping[str, float] = dataclasses.field(default_factory=dict)
    root: bool = False
    beside: tuple[Path, ...] = ()

    def of(self, written: str) -> float | None:
        """The alpha of a layer, by its name in the file."""
        for pattern, alpha in self.patterns.items():
            if re.fullmatch(rf"(.*\.)?({pattern})", written):
                return alpha
        return self.alpha


def read_alphas(path: str | Path, metadata: Mapping[str, str], prefixes: set[str]) -> Alphas:
    """What is said in the header of a file, or beside it.

    Args:
      metadata: of the header.
      prefixes: of the names in the file.

    Raises:
      UserError: it is damaged, or says that the file is no plain LoRA.
    """
    if ALPHA in metadata:
        return _read(lambda: Alphas("its header", _number(metadata[ALPHA])), f"{path}: its header")
    if _DIFFUSERS in metadata:
        where = f"{path}: {_DIFFUSERS} in its header"
        values = _read(lambda: dict(json.loads(metadata[_DIFFUSERS])), where)
        plain = {key.removeprefix("transformer."): value for key, value in values.items()}
        return _config(plain, "its header", where)
    beside = Path(path).parent / PEFT_CONFIG
    if any(prefix.startswith(_PEFT_PREFIX) for prefix in prefixes) and beside.is_file():
        values = _read(lambda: dict(json.loads(beside.read_text(encoding="utf-8"))), str(beside))
        return dataclasses.replace(_config(values, PEFT_CONFIG, str(beside)), beside=(beside,))
    return Alphas()


@dataclasses.dataclass(frozen=True)
class Scales:
    """How often each pair counts.

    Attributes:
      by_layer: alpha/r.
      source: of the alphas, for people.
    """

    by_layer: dict[str, float]
    source: str


def scaled(found: Spelled, alphas: Alphas, file: TrainedFile) -> Scales:
    """By how much each pair is multiplied: by what the file says, unless the person passes over it; where it says
    nothing, by what the person says; else once.

    Raises:
      UserError: the person says otherwise than the file.
    """
    scales, sources, silent = {}, set(), not (found.alpha or alphas.source)
    for layer, down in found.down.items():
        rank, root = len(down), alphas.root
        if file.rank not in (None, rank):
            raise UserError(f"{file.rank}: {file.path} has pairs of rank {rank} ({layer}); leave it out", field=RANK)
        if file.alpha == "ignore":
            scales[layer] = 1.0
            sources.add("no alpha in the file" if silent else "its alpha passed over")
            continue
        alpha, source = alphas.of(found.written[layer]), alphas.source
        if layer in found.alpha:
            alpha, source, root = _scalar(found.alpha[layer], f"{file.path}: {layer}"), _TENSORS, False
        elif silent and file.alpha is not None:
            alpha, source = file.alpha, f"--{ALPHA}"
        if alpha is not None and file.alpha not in (None, alpha):
            raise UserError(f"{file.alpha:g}: {file.path} says {alpha:g} ({layer}); leave it out", field=ALPHA)
        scales[layer] = 1.0 if alpha is None else alpha / (math.sqrt(rank) if root else rank)
        sources.add("no alpha in the file" if alpha is None else source)
    if _TENSORS in sources and any(scale != 1 for scale in scales.values()):
        sources = sources - {_TENSORS} | {f"{_TENSORS}; --{ALPHA} ignore passes over them"}
    return Scales(scales, ", ".join(sorted(sources)))


def _scalar(value: np.ndarray, where: str) -> float:
    if value.size != 1:
        raise UserError(f"{where}: its alpha is {list(value.shape)} and no number; get the file again")
    return _read(lambda: _number(value.reshape(())), f"{where}: its alpha")


def _config(values: Mapping[str, Any], source: str, where: str) -> Alphas:
    """Of PEFT's table of values."""
    if values.get("use_dora"):
        raise UserError(f"{where}: says that the file is a DoRA, which is not read; give a LoRA")

    def make() -> Alphas:
        alpha = values.get("lora_alpha")
        patterns = {re.compile(key).pattern: _number(each) for key, each in (values.get("alpha_pattern") or {}).items()}
        return Alphas(source, None if alpha is None else _number(alpha), patterns, bool(values.get("use_rslora")))

    return _read(make, where)


def _number(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is no alpha")
    return number


def _read(make: Callable[[], Any], where: str) -> Any:
    try:
        return make()
    except (ValueError, TypeError, AttributeError, OSError, ArithmeticError, RecursionError, re.error) as error:
        raise UserError(f"{where}: damaged ({error}); get it again") from None
