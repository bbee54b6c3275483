"""How the VAE's pictures are split: over rows and columns, and over videos where there are several.

The sizes of pictures, not those of the transformer's mesh, say what can be split evenly: 64 devices share
1280x704 pixels (80 x 44 latents) as 16 x 4. So the devices, in the mesh's own order, form another grid.
"""

import dataclasses
import math

import numpy as np
from jax.sharding import AxisType, Mesh

from talkverse_jax.sharding.layout import Layout

AXES = ("batch", "copies", "rows", "columns")


def picture_layout(layout: Layout, batch: int, rows: int, columns: int) -> Layout:
    """The layout of pictures: its `batch`, `rows` and `columns` are split evenly at every resolution.

    Videos are split as the layout has it, as far as they go round; the other devices share rows and columns,
    as many as divide them, and what is left over holds copies.

    Args:
      batch: videos.
      rows, columns: of the coarsest grid, the latents'.
    """
    if layout.mesh is None:
        return layout
    devices = layout.mesh.devices.reshape(-1)
    videos = math.gcd(batch, layout.parts("batch"))
    down, across = picture_parts(len(devices) // videos, rows, columns)
    grid = devices.reshape(videos, -1, down, across)
    mesh = Mesh(np.asarray(grid), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    axes = {name: (name,) if name in AXES else () for name in layout.rules.__dataclass_fields__}
    return Layout(mesh, dataclasses.replace(layout.rules, **axes))


def picture_parts(devices: int, rows: int, columns: int) -> tuple[int, int]:
    """Into how many parts rows and columns are cut for this many devices.

    Of all cuts of most parts the one with the shortest borders, which neighbours exchange.
    """
    cuts = [
        (down, across)
        for down in range(1, min(devices, rows) + 1)
        for across in range(1, min(devices // down, columns) + 1)
        if devices % (down * across) == rows % down == columns % across == 0
    ]
    return max(cuts, key=lambda cut: (cut[0] * cut[1], -(cut[0] * columns + cut[1] * rows)))
