"""Convert a random checkpoint of full size: seconds, beside a plain copy of the same files, and peak memory.

    python benchmarks/convert.py --folder SCRATCH

Component by component, each deleted before the next: make (random, in the published layout), copy, convert.
The DiT takes 46 GB of disk for a while, UMT5-XXL 23 GB. When a time begins the files are out of the page
cache; when it ends what was written is on the disk.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from talkverse_jax.cli.command import run_command
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry
from talkverse_jax.pipeline.family import Family

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the conversion of a random checkpoint of full size.")
    parser.add_argument(
        "--folder", metavar="DIR", default="outputs/bench_convert", help="scratch (default: %(default)s)"
    )
    parser.add_argument("--family", metavar="NAME", default=registry.DEFAULT, help="default: %(default)s")
    parser.add_argument("--components", metavar="LIST", help="default: all")
    parser.add_argument("--config", metavar="FILE", help="TOML file of sizes (default: the published ones)")
    args = parser.parse_args()
    family = registry.find(args.family)
    configs = family.configs_from_toml(args.config) if args.config else family.real_size()
    folder = Path(args.folder)
    names = args.components.split(",") if args.components else list(family.components)
    for name in names:
        if name not in family.components:
            raise UserError(f"{name}: none of {', '.join(family.components)}", field="components")
    needed = 2 * max(_source_bytes(family, name, configs) for name in names)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise UserError(f"{folder}: {needed / 1e9:.0f} GB needed, {free / 1e9:.0f} free; give another", field="folder")
    scratch = Path(tempfile.mkdtemp(dir=folder))
    print(
        "| component | files | result | copy | conversion | peak RssAnon |\n|---|---|---|---|---|---|",
        flush=True,
    )
    try:
        for name in names:
            print(_measure(family, name, configs, scratch), flush=True)
    finally:
        shutil.rmtree(scratch)


def _source_bytes(family: Family, name: str, configs: Any) -> int:
    """About; trained tensors may be half as large as counted here."""
    values = sum(math.prod(shape) for shape in family.components[name].torch_shapes(getattr(configs, name)).values())
    return values * np.dtype(family.sources[name].random.dtype).itemsize


def _measure(family: Family, name: str, configs: Any, folder: Path) -> str:
    """A row of the table."""
    published, copy, weights = folder / "published", folder / "copy", folder / "weights"
    paths = write_random_checkpoint(family, published, configs, seed=0, components=(name,))
    source = _flush(published)

    begin = time.perf_counter()
    shutil.copytree(published, copy)
    _flush(copy)
    copied = time.perf_counter() - begin
    shutil.rmtree(copy)

    (folder / "sizes.toml").write_text(_toml(to_dict(configs)))
    command = [sys.executable, "convert_torch_weights.py", "--components", name, "--output", weights]
    command += ["--family", family.name, "--config", folder / "sizes.toml"]
    for flag, path in paths.items():
        command += [f"--{flag}", path]
    _flush(published)
    begin = time.perf_counter()
    peak = _run_and_watch([str(word) if isinstance(word, str) else str(Path(word).resolve()) for word in command])
    result = _flush(weights)
    converted = time.perf_counter() - begin
    for path in (published, weights):
        shutil.rmtree(path)
    return (
        f"| {name} | {source / 1e9:.2f} GB | {result / 1e9:.2f} GB | {copied:.1f} s | {converted:.1f} s "
        f"| {peak / 1e9:.2f} GB |"
    )


def _flush(folder: Path) -> int:
    """Write a folder's files to the disk and drop them from the page cache; returns their bytes."""
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
            total += path.stat().st_size
    return total


def _run_and_watch(command: list[str]) -> int:
    """Run a command to its end; the largest RssAnon it had, in bytes."""
    peak = 0
    with subprocess.Popen(command, cwd=ROOT) as process:
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except FileNotFoundError:
                break
            for line in status.splitlines():
                if line.startswith("RssAnon"):
                    peak = max(peak, int(line.split()[1]) * 1024)
            time.sleep(0.02)
    if process.returncode:
        raise UserError(f"convert_torch_weights.py ended with exit code {process.returncode}")
    return peak


def _toml(table: dict, name: str = "") -> str:
    """A dict of plain values and dicts as TOML."""
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"[{name}]"] if name else []
    lines += [
        f"{key} = {str(value).lower() if isinstance(value, bool | list) else value}" for key, value in values.items()
    ]
    tables = [(key, value) for key, value in table.items() if isinstance(value, dict)]
    return "\n".join(lines + [_toml(value, f"{name}.{key}".strip(".")) for key, value in tables]) + "\n"


if __name__ == "__main__":
    run_command(main)
