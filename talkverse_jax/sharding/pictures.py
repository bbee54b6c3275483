"""How the VAE's pictures are split: over rows and columns, and over videos where there are several.

What divides the pictures has nothing to do with the transformer's mesh: 64 devices share 1280x704 pixels
(80 x 44 latents) as 16 x 4. So the VAE has a mesh of its own over the same devices in the same order, whose axes
are as short as can be, and each picture size takes those for its rows and its columns that divide it best.
"""

import dataclasses
import functools
import itertools
import math

from jax.sharding import AxisType, Mesh

from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.rules import Rules

PICTURES = ("batch", None, "rows", "columns", None)  # the logical axes of [B, T, H, W, C]


def picture_layout(layout: Layout) -> Layout:
    """The VAE's layout on the devices of another: an axis for each prime factor of their number."""
    if layout.mesh is None:
        return Layout()
    sizes = _prime_factors(layout.mesh.size) or (1,)
    names = tuple(f"factor_{i}" for i in range(len(sizes)))
    mesh = Mesh(layout.mesh.devices.reshape(sizes), names, axis_types=(AxisType.Auto,) * len(sizes))
    unused = {field.name: () for field in dataclasses.fields(Rules)}
    return Layout(mesh, Rules(**unused | {"width": names}))


@functools.cache
def split_for(layout: Layout, batch: int, rows: int, columns: int) -> Layout:
    """The layout with its mesh axes shared out among `batch`, `rows` and `columns`.

    Videos are split first, as far as they go round. Then rows and columns take as many devices as divide
    them, cut so that the borders, which neighbours exchange, are shortest. Devices left over hold copies.

    Args:
      batch: videos.
      rows, columns: of the coarsest grid, the latents', so that every finer one is split in the same way.
    """
    if layout.mesh is None:
        return layout
    sizes = {axis: size for axis, size in layout.mesh.shape.items() if size > 1}
    parts = lambda axes: math.prod(sizes[axis] for axis in axes)  # noqa: E731
    videos: tuple[str, ...] = ()
    for axis in sizes:
        if batch % parts((*videos, axis)) == 0:
            videos += (axis,)
    rest = [axis for axis in sizes if axis not in videos]
    cuts = []
    for roles in itertools.product(("down", "across", None), repeat=len(rest)):
        down = tuple(axis for axis, role in zip(rest, roles) if role == "down")
        across = tuple(axis for axis, role in zip(rest, roles) if role == "across")
        if rows % parts(down) == columns % parts(across) == 0:
            cuts.append((down, across))
    best = max(cuts, key=lambda cut: (parts(sum(cut, ())), -parts(cut[0]) * columns - parts(cut[1]) * rows))
    rules = dataclasses.replace(layout.rules, batch=videos, rows=best[0], columns=best[1])
    return dataclasses.replace(layout, rules=rules)


def _prime_factors(number: int) -> tuple[int, ...]:
    for factor in range(2, number + 1):
        if number % factor == 0:
            return factor, *_prime_factors(number // factor)
    return ()
