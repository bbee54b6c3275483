"""What a run of jobs can be told, whatever the family. Imports no JAX."""

import dataclasses
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import check_bounds, option


@dataclasses.dataclass(frozen=True)
class Output:
    """Where a single video goes."""

    output: str = option("the video to write (.mp4)", group="output", metavar="FILE", default="talk.mp4")
    resume: bool = option(
        "go on with the video that a stopped run of the same command left unfinished", group="output", default=False
    )


@dataclasses.dataclass(frozen=True)
class BatchOptions:
    """Many videos by many workers."""

    batch: str | None = option(
        "make many videos: a file of JSON lines, or a JSON list, whose objects have image, audio, prompt and other "
        "flags (docs/sampling.md)",
        group="batch",
        metavar="FILE",
        default=None,
    )
    output_dir: str | None = option(
        "folder that the workers of the batch share, on a disk or in a bucket (required with --batch)",
        group="batch",
        metavar="DIR",
        default=None,
    )
    batch_size: int = option(
        "videos of one shape that are denoised together",
        group="batch",
        metavar="N",
        default=1,
        lowers_memory=(3, "1"),
    )
    lease_timeout: int = option(
        "seconds without a sign of life after which the videos of another worker are taken over",
        group="batch",
        metavar="S",
        default=120,
    )
    together: bool = option(
        "processes that run together (docs/launch.md) are one worker of the batch; otherwise each is one itself",
        group="batch",
        default=False,
    )

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("lease_timeout", 2)):
            if (value := getattr(self, name)) < least:
                raise UserError(f"{value}: give {least} or more", field=name)
        if self.together and self.batch is None:
            raise UserError("is for --batch; a single video takes all processes that there are", field="together")
        if self.output_dir is not None and self.batch is None:
            raise UserError("is for --batch; a single video takes --output", field="output_dir")
        if self.batch is not None and not self.output_dir:
            raise UserError("needs --output_dir, where the videos go", field="batch")


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """Who places a batch's workers."""

    engine: Literal["ray", "none"] | None = option(
        "ray: it places workers of the batch on the hosts of a cluster, and starts dead ones again (docs/launch.md); "
        "none (the default): this process is one worker",
        group="batch",
        default=None,
    )
    ray_address: str | None = option(
        "HOST:PORT of Ray's head (default: RAY_ADDRESS, or the cluster of this host; else this host alone)",
        group="batch",
        metavar="ADDRESS",
        default=None,
    )
    workers: int = option(
        "workers that Ray places on each host; they share out its GPUs, or its CPUs where no host has accelerators",
        group="batch",
        metavar="N",
        default=1,
        least=1,
    )
    hosts: int | None = option(
        "hosts that Ray gives workers at most, and for which a cluster that scales is asked (default: all there are)",
        group="batch",
        metavar="N",
        default=None,
        least=1,
    )

    def __post_init__(self):
        check_bounds(self)
        given = {"ray_address": self.ray_address, "hosts": self.hosts, "workers": self.workers != 1 or None}
        for name, value in given.items():
            if value is not None and self.engine is None:
                raise UserError("is for --engine ray", field=name)
