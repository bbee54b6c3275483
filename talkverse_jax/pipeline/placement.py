"""Where a family's models lie: one mesh over the devices, and each model's own layout of it."""

from collections.abc import Iterable

import jax
from jax.sharding import Mesh

from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.mesh import make_mesh
from talkverse_jax.sharding.mesh_config import MeshConfig
from talkverse_jax.sharding.pictures import picture_layout
from talkverse_jax.weights.component import Component

Layouts = dict[str, Layout]  # by component

_SMALL = 20e9  # bytes: an accelerator with less cannot hold the transformer and decode a clip beside it


def choose_mesh(asked: str | None, heads: int, branches: int) -> Mesh | None:
    """The mesh that a run takes.

    Args:
      asked: `data=2,context=-1`, or a file like those of configs/mesh/. None: all accelerators share the
        sequence, each half of them that of one branch of guidance, and small ones keep half of the weights each;
        of CPU devices the first is taken.
      heads: of the transformer.
      branches: of guidance, of all videos that are denoised together.

    Returns:
      None where one device is enough of a mesh.

    Raises:
      UserError: the axes do not fit the devices, the heads or the branches.
    """
    devices = jax.devices()
    if asked is None:
        if len(devices) == 1 or devices[0].platform == "cpu" and jax.process_count() == 1:
            return None
        halves = branches if len(devices) % branches == 0 else 1
        memory = (devices[0].memory_stats() or {}).get("bytes_limit", _SMALL)
        shares = 2 if memory < _SMALL and len(devices) % (2 * halves) == 0 else 1
        config = MeshConfig(data=halves, fsdp=shares, context=-1)
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
