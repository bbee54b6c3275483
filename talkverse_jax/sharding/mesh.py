"""The `jax.sharding.Mesh` made of what a person asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from talkverse_jax.core.errors import UserError
from talkverse_jax.sharding.mesh_config import AXES, MeshConfig


def make_mesh(config: MeshConfig, devices: Sequence[Any], heads: int) -> Mesh:
    """The mesh over `devices`, neighbours on a torus kept neighbours.

    Args:
      devices: real ones, or those of a topology that is only compiled for.
      heads: attention heads of the transformer.

    Raises:
      UserError: the axes do not fit the devices.
    """
    sizes = config.sizes(len(devices), heads)
    outer = dict(data=config.dcn_data, fsdp=config.dcn_fsdp, ring=config.dcn_context, ulysses=1, tensor=1)
    if config.slices > 1:
        inner = [size // outer[name] for name, size in zip(AXES, sizes.shape)]
        try:
            grid = mesh_utils.create_hybrid_device_mesh(
                inner, list(outer.values()), devices, allow_split_physical_axes=True
            )
        except (ValueError, AttributeError) as error:
            raise UserError(
                f"mesh: {config.slices} slices were asked for, these devices are none ({error}); leave out dcn_*"
            ) from None
    else:
        grid = mesh_utils.create_device_mesh(sizes.shape, devices, allow_split_physical_axes=True)
    return Mesh(np.asarray(grid), AXES, axis_types=(AxisType.Auto,) * len(AXES))
