"""One denoising step in plain PyTorch, with the very parameters and conditions of our transformer.

It stands for the original where that cannot be installed: the same products, norms and modulation in float32,
`scaled_dot_product_attention` (which takes a flash kernel where there is one), the branches of guidance one after the
other. It is quicker than the original in two things: text, sound and motion are not computed again in every step, and
positions are complex64.

Shapes: B batch (1), L tokens, S noisy ones, D width, N heads, K head width.
"""

from __future__ import annotations  # torch is imported when it is known to be there

import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch  # optional
import torch.nn.functional as F
from einops import rearrange
from flax import nnx

from talkverse_jax.families.talkverse.config import BLOCK
from talkverse_jax.families.talkverse.model import NOISY, ClipConditions, TalkVerse

Tensors = dict[str, torch.Tensor]


class PlainStep:
    """A step for both branches of guidance. Tensors are views of the arrays of JAX: nothing is copied."""

    def __init__(self, model: TalkVerse, conditions: ClipConditions):
        self.config, self.trunk = model.config, model.config.trunk
        self.ends = _tensors(model, skip="runs")
        self.layers = list(_layers(model))
        self.conditions = jax.tree.map(to_torch, conditions)
        self.turns = torch.complex(self.conditions.rope.cos, self.conditions.rope.sin)[:, None]

    def step(self, latents: torch.Tensor, timestep: float, scale: float, length: float) -> torch.Tensor:
        """Latents [1, F, h, w, C] after an Euler step of that length."""
        guided, free = (self.velocity(latents, timestep, branch) for branch in range(2))
        return latents - length * (free + scale * (guided - free))

    def velocity(self, latents: torch.Tensor, timestep: float, branch: int) -> torch.Tensor:
        """Of one branch, float32."""
        frames, h, w = latents.shape[1:4]
        _, r, s = self.trunk.patch_size
        patches = rearrange(latents, "b f (y r) (x s) c -> b (f y x) (r s c)", r=r, s=s)
        kernel = self.ends["patch_embedding/kernel"].flatten(0, 3)
        noisy = patches.to(kernel.dtype) @ kernel + self.ends["patch_embedding/bias"]
        noisy = noisy.float() + self.ends["token_kind"][NOISY].float()
        x = torch.cat([noisy, self.conditions.clean_tokens[branch : branch + 1]], dim=1)
        count, frame = noisy.shape[1], noisy.shape[1] // frames
        time, vectors = self._time(timestep)
        for kind, layer, condition in self.layers_of(branch):
            if kind == BLOCK:
                x = self._block(x, layer, condition, vectors, count)
            else:
                x[:, :count] += self._injection(x[:, :count], layer, condition, frame)
        return rearrange(
            self._head(x[:, :count], time),
            "b (f y x) (r s c) -> b f (y r) (x s) c",
            f=frames,
            y=h // r,
            r=r,
            s=s,
        )

    def layers_of(self, branch: int) -> Iterator[tuple[str, Tensors, Any]]:
        """Kind, parameters and condition of each, in order."""
        for kind, run, stage, repeat, layer in self.layers:
            of_all = self.conditions.runs[run][stage]
            pick = (lambda x, at=repeat: x[at]) if repeat is not None else (lambda x: x)
            yield kind, layer, jax.tree.map(lambda x, pick=pick: pick(x)[branch : branch + 1], of_all)

    def _time(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The head's vector [1, D], and those of noisy and clean tokens [2, 6, D]."""
        half = self.trunk.freq_dim // 2
        angles = timestep * 10_000.0 ** (-np.arange(half) / half)
        wave = torch.tensor(np.concatenate([np.cos(angles), np.sin(angles)])[None], dtype=torch.float32)
        wave = wave.to(self.conditions.clean_time.device)
        time = _linear(F.silu(_linear(wave, self.ends, "time_embedding/linear_in", True)), self.ends, *_OUT)
        six = _linear(F.silu(time), self.ends, "time_embedding/projection", True).view(1, 6, -1)
        return time, torch.cat([six, self.conditions.clean_time])

    def _block(self, x, layer: Tensors, context, vectors: torch.Tensor, noisy: int) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (vectors + layer["modulation"].float()).unbind(1)
        hidden = _by_kind(self._norm(x), noisy, scale1, shift1)
        x = x + _gated(self._self_attention(hidden, layer), noisy, gate1)
        normed = self._norm(x, layer["norm3/scale"], layer["norm3/bias"])
        x = x + self._cross_attention(normed, layer, "cross_attn", context)
        hidden = _linear(_by_kind(self._norm(x), noisy, scale2, shift2), layer, "ffn/linear_in")
        hidden = _linear(F.gelu(hidden, approximate="tanh"), layer, "ffn/linear_out")
        return x + _gated(hidden.float(), noisy, gate2)

    def _self_attention(self, x, layer: Tensors) -> torch.Tensor:
        q, k = (
            self._turned(self._rms(_linear(x, layer, f"self_attn/{n}"), layer, f"self_attn/norm_{n}")) for n in "qk"
        )
        v = self._heads(_linear(x, layer, "self_attn/v"))
        return _linear(_attend(q.to(v.dtype), k.to(v.dtype), v), layer, "self_attn/o").float()

    def _cross_attention(self, x, layer: Tensors, name: str, context) -> torch.Tensor:
        q = self._heads(self._rms(_linear(x, layer, f"{name}/q"), layer, f"{name}/norm_q")).to(context.keys.dtype)
        return _linear(_attend(q, context.keys, context.values), layer, f"{name}/o").float()

    def _injection(self, x, layer: Tensors, audio, frame: int) -> torch.Tensor:
        """Every frame's tokens hear their own sound."""
        frames = audio.shift.shape[1]
        x = rearrange(x, "b (f l) d -> (b f) l d", f=frames)
        x = F.layer_norm(x, x.shape[-1:], eps=1e-5) * (1 + audio.scale[0][:, None]) + audio.shift[0][:, None]
        context = audio.context._replace(
            keys=rearrange(audio.context.keys, "b (f s) n k -> (b f) s n k", f=frames),
            values=rearrange(audio.context.values, "b (f s) n k -> (b f) s n k", f=frames),
        )
        heard = self._cross_attention(x, layer, "attention", context)
        return rearrange(heard, "(b f) l d -> b (f l) d", f=frames)

    def _head(self, x, time: torch.Tensor) -> torch.Tensor:
        shift, scale = (time[:, None] + self.ends["head/modulation"].float()).unbind(1)
        return _linear(self._norm(x) * (1 + scale) + shift, self.ends, "head/linear", True)

    def _norm(self, x, scale=None, bias=None) -> torch.Tensor:
        affine = [None if p is None else p.float() for p in (scale, bias)]
        return F.layer_norm(x, x.shape[-1:], *affine, eps=self.trunk.eps)

    def _rms(self, x, layer: Tensors, name: str) -> torch.Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], layer[f"{name}/scale"].float(), self.trunk.eps)

    def _heads(self, x) -> torch.Tensor:
        return x.unflatten(-1, (self.trunk.num_heads, -1))

    def _turned(self, x) -> torch.Tensor:
        pairs = torch.view_as_complex(self._heads(x).unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * self.turns).flatten(-2)


_OUT = ("time_embedding/linear_out", True)


def to_torch(x: jax.Array) -> torch.Tensor:
    """The same memory."""
    return torch.from_dlpack(x)


def _tensors(module: nnx.Module, skip: str = "") -> Tensors:
    """Parameters by path."""
    flat = nnx.to_flat_state(nnx.state(module))
    return {"/".join(map(str, p)): to_torch(v.get_value()) for p, v in flat if str(p[0]) != skip}


def _layers(model: TalkVerse) -> Iterator[tuple[str, int, int, int | None, Tensors]]:
    """Kind, run, stage and repeat of each layer in order, and its parameters."""
    for number, run in enumerate(model.runs):
        stages = [_tensors(stack.layers) for stack in run.stages]
        repeats = len(run.pattern[0])
        for repeat in range(repeats):
            for stage, (kind, tensors) in enumerate(zip(run.kinds, stages)):
                if repeats == 1:
                    yield kind, number, stage, None, tensors
                else:
                    yield kind, number, stage, repeat, {name: x[repeat] for name, x in tensors.items()}


def _linear(x: torch.Tensor, layer: Tensors, name: str, wide: bool = False) -> torch.Tensor:
    """In the parameters' dtype, or float32."""
    kernel, bias = (layer[f"{name}/{part}"] for part in ("kernel", "bias"))
    if wide:
        kernel, bias = kernel.float(), bias.float()
    return F.linear(x.to(kernel.dtype), kernel.T, bias)


def _by_kind(x: torch.Tensor, noisy: int, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    parts = x[:, :noisy], x[:, noisy:]
    return torch.cat([part * (1 + scale[i]) + shift[i] for i, part in enumerate(parts)], dim=1)


def _gated(x: torch.Tensor, noisy: int, gate: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:, :noisy] * gate[0], x[:, noisy:] * gate[1]], dim=1)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """[B, L, N, K] to [B, L, D]."""
    out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), scale=1 / math.sqrt(q.shape[-1]))
    return out.transpose(1, 2).flatten(-2)
