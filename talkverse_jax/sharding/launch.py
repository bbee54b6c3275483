"""How a process learns of the others it runs with: flags, variables, Slurm, or the TPU slice it is on."""

import dataclasses
import os
import re
from collections.abc import Mapping

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.jax_private import on_tpu_host

_FLAGS = ("--coordinator_address", "--num_processes", "--process_id")
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


@dataclasses.dataclass(frozen=True)
class Launch:
    """How this process joins the others. Without an address JAX asks the TPU's metadata.

    Attributes:
      coordinator: host:port where process 0 listens.
      local_devices: those of the host that belong to this process; None: all of them.
    """

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    local_devices: tuple[int, ...] | None = None
    cluster: str = "deactivate"


def find_launch(
    coordinator_address: str | None,
    num_processes: int | None,
    process_id: int | None,
    environ: Mapping[str, str] = os.environ,
) -> Launch | None:
    """From flags, JAX's variables, Slurm or a TPU slice, in this order; None: this process is the only one.

    Nothing outside this machine is asked.

    Raises:
      UserError: flags or variables are incomplete or contradict each other.
    """
    address = environ.get(_VARIABLES[0]) or None if coordinator_address is None else coordinator_address
    processes, process = _number(num_processes, 1, environ), _number(process_id, 2, environ)
    if any(value is not None for value in (address, processes, process)):
        if processes == 1 and not process:
            return None
        if address is None or processes is None or process is None:
            missing = [flag for flag, value in zip(_FLAGS, (address, processes, process)) if value is None]
            raise UserError(
                f"{', '.join(missing)}: missing; several processes need {', '.join(_FLAGS)} "
                f"(or {', '.join(_VARIABLES)})"
            )
        if not 0 <= process < processes:
            raise UserError(f"--process_id {process}: give 0 to {processes - 1} (--num_processes {processes})")
        port = re.fullmatch(r".+:(\d{1,5})", address)
        if not port or not 0 < int(port[1]) < 65536:
            raise UserError(f"--coordinator_address {address}: give host:port of process 0, as 10.0.0.1:1234")
        return Launch(address, processes, process)
    return _slurm(environ) or _tpu(environ)


def _number(flag: int | None, index: int, environ: Mapping[str, str]) -> int | None:
    """The flag's value, else its variable's."""
    value = environ.get(_VARIABLES[index]) if flag is None else flag
    try:
        return None if value in (None, "") else int(value)
    except ValueError:
        raise UserError(f"{_VARIABLES[index]}={value}: give a number") from None


def _slurm(environ: Mapping[str, str]) -> Launch | None:
    """One process for each task of `srun`."""
    if int(environ.get("SLURM_STEP_NUM_TASKS", 1)) == 1 or "SLURM_STEP_NODELIST" not in environ:
        return None
    # node[001-015,020],other -> node001
    first = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", environ["SLURM_STEP_NODELIST"])
    node = "".join(first.groups(default="")) if first else environ["SLURM_STEP_NODELIST"]
    port = 61440 + (int(environ["SLURM_JOB_ID"]) + int(environ.get("SLURM_STEP_ID", 0))) % 4096
    local = None
    # Alone on its node a task has all the GPUs; --gpus-per-task=1 shows it only one.
    alone = re.match(r"1(\(|$)", environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    bound = re.fullmatch(r"[^,]+", environ.get("CUDA_VISIBLE_DEVICES", ""))
    if not alone and not bound and "JAX_LOCAL_DEVICE_IDS" not in environ:
        local = (int(environ["SLURM_LOCALID"]),)
    return Launch(
        f"{node}:{port}",
        int(environ["SLURM_STEP_NUM_TASKS"]),
        int(environ["SLURM_PROCID"]),
        local,
    )


def _tpu(environ: Mapping[str, str]) -> Launch | None:
    """A slice of several hosts; `jax` looked for TPU chips on the PCI bus when it was imported."""
    platforms = environ.get("JAX_PLATFORMS") or "tpu"
    if not on_tpu_host() or "tpu" not in platforms:
        return None
    if "TPU_PROCESS_ADDRESSES_PATH" in environ:
        return Launch(cluster="gketpu")
    hosts = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    if hosts:
        several = "," in hosts or int(environ.get("MEGASCALE_NUM_SLICES", 1)) > 1
        return Launch(cluster="gketpu") if several else None
    return None if "TPU_SKIP_MDS_QUERY" in environ else Launch(cluster="gcetpu")
