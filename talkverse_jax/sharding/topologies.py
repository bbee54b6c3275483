"""The machines a program can be planned for: one table by the names that Google Cloud and NVIDIA use.

A v5p name counts TensorCores, two a chip that JAX shows as one device; a tpu7x name counts chips' devices: a chip
is two. Programs for TPUs are compiled without one: libtpu describes any slice.
"""

import dataclasses
import difflib
import importlib.util
import os
from typing import Any

import jax

from talkverse_jax.core.errors import UserError

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Generation:
    """What one device (as JAX counts them) can do at most.

    Attributes:
      platform: `tpu`, `gpu` or `cpu`.
      device_kind: as JAX names it.
      hbm: bytes of memory that a program may use; None: that of the host.
      clock: cycles a second of its cores.
      flops: floating-point operations a second of bfloat16 products; None: unknown.
      float32_flops: of float32 products, where the hardware has them; a TPU makes them of bfloat16 ones.
      hbm_bandwidth: bytes a second between a device and its memory.
      link_bandwidth: bytes a second that a chip receives through one of its links.
      host_bandwidth: bytes a second that a device copies from its host's memory.
      devices_per_chip: devices that share a chip and its links.
    """

    platform: str
    device_kind: str
    hbm: int | None = None
    clock: float | None = None
    flops: float | None = None
    float32_flops: float | None = None
    hbm_bandwidth: float | None = None
    link_bandwidth: float | None = None
    host_bandwidth: float | None = None
    devices_per_chip: int = 1


# FLOP/s and bandwidths: https://docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e,tpu7x} and
# .../tpu/docs/system-architecture-tpu-vm, read 2026-11-20; "bidirectional ICI bandwidth per chip" there is the sum
# of both directions of all links (4 in a 2-D torus, 6 in a 3-D one): 400, 1200, 800 and 1200 GB/s.
# hbm: what XLA:TPU of libtpu 0.0.51 says is available when a program does not fit (15.75G, 95.73G, 31.24G,
# 94.74G): the memory less what the system keeps.
V5E = Generation(
    platform="tpu",
    device_kind="TPU v5 lite",
    hbm=int(15.75 * GIB),
    clock=1.503e9,
    flops=197e12,
    hbm_bandwidth=819e9,
    link_bandwidth=50e9,
)
V5P = Generation(
    platform="tpu",
    device_kind="TPU v5",
    hbm=int(95.73 * GIB),
    clock=1.75e9,
    flops=459e12,
    hbm_bandwidth=2765e9,
    link_bandwidth=100e9,
)
V6E = Generation(
    platform="tpu",
    device_kind="TPU v6 lite",
    hbm=int(31.24 * GIB),
    clock=1.75e9,
    flops=918e12,
    hbm_bandwidth=1638e9,
    link_bandwidth=100e9,
)
# A chip has 2307 TFLOP/s and 7380 GB/s, half for each device.
TPU7X = Generation(
    platform="tpu",
    device_kind="TPU7x",
    hbm=int(94.74 * GIB),
    clock=2.2e9,
    flops=2307e12 / 2,
    hbm_bandwidth=7380e9 / 2,
    link_bandwidth=100e9,
    devices_per_chip=2,
)
# NVIDIA's data sheets of the SXM cards (nvidia.com/en-us/data-center/h100, .../h200): rates of bfloat16 and of TF32
# (what JAX multiplies float32 in) without sparsity; NVLink 900 GB/s in both directions together, through a switch.
# host_bandwidth: of 1 GiB of pinned memory over PCIe 5.0 x16, measured on an H200 (JAX 0.11.2, 2026-11-27).
H100 = Generation(
    platform="gpu",
    device_kind="NVIDIA H100 80GB HBM3",
    hbm=int(80e9),
    flops=989.4e12,
    float32_flops=494.7e12,
    hbm_bandwidth=3.35e12,
    link_bandwidth=450e9,
    host_bandwidth=51.9e9,
)
# A card of 24 GB: NVIDIA's Ada whitepaper, bfloat16 summed in float32, without sparsity; of PCIe 4.0 x16's 31.5 GB/s
# four fifths. There are no links from card to card.
RTX4090 = Generation(
    platform="gpu",
    device_kind="NVIDIA GeForce RTX 4090",
    hbm=int(24e9),
    flops=165.2e12,
    float32_flops=82.6e12,
    hbm_bandwidth=1008e9,
    host_bandwidth=25e9,
)
H200 = dataclasses.replace(H100, device_kind="NVIDIA H200", hbm=int(141e9), hbm_bandwidth=4.8e12)
CPU = Generation(platform="cpu", device_kind="cpu")


@dataclasses.dataclass(frozen=True)
class Topology:
    """A machine by its name.

    Attributes:
      grid: chips along each axis of the interconnect.
      libtpu: the slice as libtpu names it; None: no TPU.
      torus: whether the ends of each axis are joined (v5e, v6e: axes of 16; v5p: from 4x4x4).
    """

    name: str
    generation: Generation
    grid: tuple[int, ...]
    libtpu: str | None = None
    torus: bool = False

    @property
    def chips(self) -> int:
        count = 1
        for length in self.grid:
            count *= length
        return count

    @property
    def devices(self) -> int:
        """JAX devices."""
        return self.chips * self.generation.devices_per_chip

    @property
    def interconnect_bandwidth(self) -> float | None:
        """Bytes a second that the device with the fewest links receives at most; None for a single device.

        A chip in a corner has one link an axis, or two in a torus. Devices of one chip share its links; what they
        pass each other is reckoned as if it went through them.
        """
        axes = sum(length > 1 for length in self.grid)
        if self.generation.link_bandwidth is None or self.devices == 1:
            return None
        links = axes * (2 if self.torus else 1)
        return links * self.generation.link_bandwidth / self.generation.devices_per_chip


def _tpu(name: str, generation: Generation, *grid: int, torus: bool = False) -> Topology:
    prefix = name.split("-")[0]
    return Topology(name, generation, grid, f"{prefix}:{'x'.join(map(str, grid))}", torus)


TOPOLOGIES: dict[str, Topology] = {
    topology.name: topology
    for topology in (
        _tpu("v5e-1", V5E, 1, 1),
        _tpu("v5e-4", V5E, 2, 2),
        _tpu("v5e-8", V5E, 2, 4),
        _tpu("v5e-16", V5E, 4, 4),
        _tpu("v5e-64", V5E, 8, 8),
        _tpu("v5e-256", V5E, 16, 16, torus=True),
        _tpu("v5p-8", V5P, 2, 2, 1),
        _tpu("v5p-16", V5P, 2, 2, 2),
        _tpu("v5p-64", V5P, 2, 4, 4),
        _tpu("v6e-1", V6E, 1, 1),
        _tpu("v6e-8", V6E, 2, 4),
        _tpu("v6e-16", V6E, 4, 4),
        _tpu("v6e-32", V6E, 4, 8),
        _tpu("v6e-64", V6E, 8, 8),
        _tpu("v6e-256", V6E, 16, 16, torus=True),
        _tpu("tpu7x-8", TPU7X, 2, 2, 1),
        Topology("H100-1", H100, (1,)),
        Topology("H100-8", H100, (8,)),
        Topology("H200-1", H200, (1,)),
        Topology("H200-8", H200, (8,)),
        Topology("RTX4090-1", RTX4090, (1,)),
        Topology("cpu", CPU, (1,)),
    )
}


def find(name: str) -> Topology:
    """The topology of that name, in either case.

    Raises:
      UserError: there is none; the message names the nearest.
    """
    by_name = {known.lower(): topology for known, topology in TOPOLOGIES.items()}
    if name.lower() in by_name:
        return by_name[name.lower()]
    family = [known for known in TOPOLOGIES if known.lower().split("-")[0] == name.lower().split("-")[0]]
    near = family or difflib.get_close_matches(name, TOPOLOGIES, n=3, cutoff=0.5) or list(TOPOLOGIES)
    raise UserError(f"--topology {name}: unknown; {' or '.join(near)} would do, or all")


# What JAX sets on a TPU's host (its `cloud_tpu_init`; 0.10.2): it is a part of the keys of kept programs.
_ON_A_HOST = " --xla_tpu_use_enhanced_launch_barrier=true"


def devices(topology: Topology, to_keep: bool = False) -> list[Any]:
    """The devices of a topology: a TPU's to compile for, or all of this machine's CPUs.

    Args:
      to_keep: as programs are compiled on the machine itself: up to eight chips of v5e and v6e have one host.

    Raises:
      UserError: libtpu is missing, or the topology is a GPU's, for which nothing can be compiled without one.
    """
    generation = topology.generation
    if generation.platform == "cpu":
        return jax.devices("cpu")
    if generation.platform == "gpu":
        raise UserError(f"--topology {topology.name}: XLA compiles for a GPU on a GPU only; it is estimated")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology {topology.name}: compiling for a TPU needs libtpu; pip install libtpu (no TPU is needed)"
        )
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU VM to ask
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing runs; another process may compile too
    if to_keep and _ON_A_HOST.strip() not in (given := os.environ.get("LIBTPU_INIT_ARGS", "")):
        os.environ["LIBTPU_INIT_ARGS"] = given + _ON_A_HOST
    from jax.experimental import topologies as described

    assert topology.libtpu is not None, "all TPU topologies have libtpu's name"
    # libtpu takes hosts of four chips for granted.
    one_host = topology.chips == 1 or to_keep and topology.grid == (2, 4)
    bounds = {"chips_per_host_bounds": [*topology.grid, 1]} if one_host else {}
    return list(described.get_topology_desc(topology.libtpu, platform="tpu", **bounds).devices)
