"""The models of a folder of converted weights on this machine, each loaded when it is first needed."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh

from talkverse_jax.core.errors import UserError
from talkverse_jax.ops.attention import Attention
from talkverse_jax.ops.names import Products
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.placement import choose_mesh, component_layouts
from talkverse_jax.pipeline.programs import component_bytes
from talkverse_jax.pipeline.residency import host_device, to_host
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.weights import store
from talkverse_jax.weights.component import Component

Item = TypeVar("Item")


class Models:
    """`models["vae"]` is that component, loaded once.

    Args:
      dtypes: of each component's parameters and products.
      denoiser: the transformer's name: trained files are laid over it, and it may wait in host memory.
      heads, head_dim: of its attention.
      rows: of its batch: videos that are denoised together, times branches of guidance.
      text: the text encoder's name; it may run on the CPU.
      mesh: in place of the one that `machine` asks for.

    Attributes:
      notices: lines for the person: what is amiss with the weights, what of the trained files is laid over them.

    Raises:
      UserError: weights or `lora_ckpt` cannot be used, or the mesh or the attention kernel cannot be had.
    """

    def __init__(
        self,
        components: Mapping[str, Component],
        weights: Weights,
        machine: Machine,
        *,
        dtypes: Mapping[str, str],
        denoiser: str,
        heads: int,
        head_dim: int,
        rows: int,
        text: str = "text",
        vae: str = "vae",
        mesh: "Mesh | None | str" = "asked",
    ):
        self._components, self._weights, self._machine, self._dtypes = components, weights, machine, dtypes
        self._denoiser, self._text, self._vae = denoiser, text, vae
        said = store.look_over(weights.weights, weights.verify)
        trained = weights.trained_files
        opened = store.check_trained(weights.weights, components[denoiser], trained) if trained else ()
        self.notices = (*said, *(file.notice for file in opened))
        self._is_int8 = store.is_int8(weights.weights, components[denoiser])
        self.mesh = choose_mesh(machine.mesh, heads, rows, self._denoiser_bytes) if isinstance(mesh, str) else mesh
        self.layouts = component_layouts(self.mesh, components.values(), machine.resident_blocks)
        if machine.int8_products and not self._is_int8:
            raise UserError(f"true: {weights.weights} is not int8; convert with --dtype int8", field="int8_products")
        Attention(self.layouts[denoiser], machine.attention).check(jnp.dtype(machine.dtype), head_dim)
        self._loaded: dict[str, nnx.Module] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            with self.device_of(name):
                self._loaded[name] = self._load(name)
        return self._loaded[name]

    def has(self, *names: str) -> bool:
        """Whether these models are loaded."""
        return self._loaded.keys() >= set(names)

    @property
    def products(self) -> Products | None:
        """How the transformer's layers compute whose kernels are int8; None: there are none."""
        if not self._is_int8:
            return None
        return "int8" if self._machine.int8_products else "float"

    def folder_of(self, name: str) -> Path:
        """Of a component's weights and the files that came with them."""
        return store.folder_of(self._weights.weights, name)

    def drop(self, *names: str) -> None:
        """Let go of models; they are loaded again when they are needed."""
        for name in names:
            self._loaded.pop(name, None)

    def replace(self, **modules: nnx.Module) -> None:
        """Take other models, by component."""
        self._loaded |= modules

    def device_of(self, name: str) -> AbstractContextManager[Any]:
        """Where a model's arrays go that nothing places, for the length of a block."""
        return jax.default_device(host_device()) if self._on_cpu(name) else nullcontext()

    @property
    def precision(self) -> AbstractContextManager[Any]:
        """Of float32 products, for the length of a block, in the thread that asks."""
        return jax.default_matmul_precision(self._machine.matmul_precision)

    def precise(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items; float32 products are of `precision` while each is made."""
        while True:
            with self.precision:
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
            del item  # nothing of it is kept while the next one is made

    def check_rows(self, rows: int, setting: str, value: Any) -> None:
        """Make sure that the transformer's batch can be split over the mesh.

        Args:
          setting, value: that make it so many rows, for the error.

        Raises:
          UserError: it cannot.
        """
        if self.mesh and rows % self.mesh.shape["data"]:
            raise UserError(
                f"{value}: makes {rows} to split over data={self.mesh.shape['data']}; give a mesh with data={rows} at "
                "most",
                field=setting,
            )

    def describe(self) -> dict[str, Any]:
        """Devices and mesh, for the record."""
        devices = self.mesh.devices.flat if self.mesh else jax.local_devices()[:1]
        return {"devices": [d.device_kind for d in devices], "mesh": dict(self.mesh.shape) if self.mesh else None}

    def _denoiser_bytes(self) -> int:
        """Of the transformer, as it lies in accelerators' memory."""
        component, dtype = self._components[self._denoiser], self._dtypes[self._denoiser]
        config, layout = (
            store.load_config(self._weights.weights, component),
            Layout(resident=self._machine.resident_blocks),
        )
        return component_bytes(component, config, dtype, layout, self._is_int8).device

    def _on_cpu(self, name: str) -> bool:
        return name == self._text and self._machine.t5_cpu

    def _load(self, name: str) -> Any:
        how: dict[str, Any] = {"layout": Layout() if self._on_cpu(name) else self.layouts[name]}
        if name == self._denoiser:
            how |= {"trained": self._weights.trained_files, "kernel": self._machine.attention}
            how["residual_dtype"] = jnp.dtype(self._machine.residual_dtype)
            how["int8_products"] = self.products
        if name == self._vae:
            how["decode_dtype"] = jnp.dtype(self._machine.decode_dtype)
        module = store.load_module(self._weights.weights, self._components[name], dtype=self._dtypes[name], **how)
        return to_host(module) if name == self._denoiser and self._machine.offload_model else module
