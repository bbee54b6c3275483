"""Where a family's models lie: one mesh over the devices, and each model's own layout of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import picture_layout
from talkverse_jax.weights.component import Component

Layouts = dict[str, Layout]  # by component

_WEIGHTS = 0.5  # of an accelerator's memory at most is the transformer's: a clip is decoded beside it


def default_mesh(devices: int, memory: float | None, branches: int, weights: Callable[[], int]) -> MeshConfig:
    """What so many accelerators do where nobody says: all share the sequence, an equal part of them that of each branch
    of guidance where they divide so, and each keeps as much of the weights as it has room for.

    Args:
      memory: bytes of one; None: unknown, but enough.
      branches: of guidance, of all videos that are denoised together.
      weights: bytes of the transformer.
    """
    data = branches if devices % branches == 0 else 1
    shares = [n for n in range(1, devices // data + 1) if devices // data % n == 0]
    if memory and len(shares) > 1:
        nbytes = weights()
        fitting = [n for n in shares if nbytes / n <= _WEIGHTS * memory]
        return MeshConfig(data=data, fsdp=min(fitting, default=shares[-1]), context=-1)
    return MeshConfig(data=data, context=-1)


def choose_mesh(
    asked: str | None,
    heads: int,
    branches: int,
    weights: Callable[[], int],
    devices: Sequence[Any] | None = None,
    memory: float | None = None,
) -> Mesh | None:
    """The mesh that a run takes.

    Args:
      asked: `data=2,context=-1`, or a file like those of configs/mesh/. None: `default_mesh` of all accelerators; of
        CPU devices the first.
      heads: of the transformer.
      branches, weights: as of `default_mesh`.
      devices: of a topology, or this machine's.
      memory: bytes of one of the topology's.

    Returns:
      None where one device is enough of a mesh.

    Raises:
      UserError: the axes do not fit the devices, the heads or the branches.
    """
    described, devices = devices is not None, jax.devices() if devices is None else list(devices)
    if asked is None:
        if len(devices) == 1 or devices[0].platform == "cpu" and jax.process_count() == 1:
            return None
        memory = memory if described else (devices[0].memory_stats() or {}).get("bytes_limit")
        config = default_mesh(len(devices), memory, branches, weights)
    else:
        config = MeshConfig.read(asked)
    mesh = make_mesh(config, devices, heads)
    if branches % mesh.shape["data"]:
        raise UserError(
            f"mesh: data={mesh.shape['data']}: a video has {branches} branch{'es' * (branches > 1)} to split; "
            f"give data={branches} at most, and the other devices to context"
        )
    return mesh


def component_layouts(
    mesh: Mesh | None, components: Iterable[Component], resident_blocks: int | None = None
) -> Layouts:
    """Each component's layout, by its name (see `Component.split`).

    Args:
      resident_blocks: of a transformer, that stay in the devices' memory (`Layout.resident`).
    """
    whole = Layout(mesh)
    return {
        each.name: Layout(mesh, each.split, resident_blocks) if each.split else picture_layout(whole)
        for each in components
    }
