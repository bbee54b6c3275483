"""Convert a random checkpoint of full size: seconds, beside a plain copy of the same files, and peak memory.

    python benchmarks/convert.py --folder SCRATCH

Component by component, each deleted before the next: make (random, in the published layout), copy, convert.
The DiT takes 46 GB of disk for a while, UMT5-XXL 23 GB. When a time begins the files are out of the page
cache; when it ends what was written is on the disk.
"""

import argparse
import dataclasses
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from talkverse_jax.convert.random_checkpoint import torch_shapes, write_random_checkpoint
from talkverse_jax.core.config import to_dict
from talkverse_jax.core.errors import UserError, run_command
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the conversion of a random checkpoint of full size.")
    parser.add_argument(
        "--folder", metavar="DIR", default="outputs/bench_convert", help="scratch (default: %(default)s)"
    )
    parser.add_argument("--components", metavar="LIST", default=",".join(COMPONENTS), help="default: %(default)s")
    parser.add_argument("--layers", metavar="N", type=int, help="blocks of dit and text (default: all)")
    args = parser.parse_args()
    configs, folder = _configs(args.layers), Path(args.folder)
    names = args.components.split(",")
    for name in names:
        if name not in COMPONENTS:
            raise UserError(f"--components {name}: none of {', '.join(COMPONENTS)}")
    needed = 2 * max(_source_bytes(name, configs) for name in names)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise UserError(f"--folder {folder}: {needed / 1e9:.0f} GB needed, {free / 1e9:.0f} free; give another")
    scratch = Path(tempfile.mkdtemp(dir=folder))
    print(
        "| component | files | result | copy | conversion | peak RssAnon |\n|---|---|---|---|---|---|",
        flush=True,
    )
    try:
        for name in names:
            print(_measure(name, configs, scratch), flush=True)
    finally:
        shutil.rmtree(scratch)


def _configs(layers: int | None) -> ModelConfigs:
    configs = ModelConfigs.real_size()
    if layers is None:
        return configs
    inject = tuple(layer for layer in configs.dit.audio_inject_layers if layer < layers)
    trunk = dataclasses.replace(configs.dit.trunk, num_layers=layers)
    dit = dataclasses.replace(configs.dit, trunk=trunk, audio_inject_layers=inject)
    return dataclasses.replace(configs, dit=dit, text=dataclasses.replace(configs.text, num_layers=layers))


def _source_bytes(name: str, configs: ModelConfigs) -> int:
    """About; a DiT's trained tensors are half as large as counted here."""
    values = sum(math.prod(shape) for shape in torch_shapes(name, getattr(configs, name)).values())
    return values * (2 if name == "text" else 4)


def _measure(name: str, configs: ModelConfigs, folder: Path) -> str:
    """A row of the table."""
    published, copy, weights = folder / "published", folder / "copy", folder / "weights"
    paths = write_random_checkpoint(published, configs, seed=0, components=(name,))
    source = _flush(published)

    begin = time.perf_counter()
    shutil.copytree(published, copy)
    _flush(copy)
    copied = time.perf_counter() - begin
    shutil.rmtree(copy)

    (folder / "sizes.toml").write_text(_toml(to_dict(configs)))
    command = [sys.executable, "convert_torch_weights.py", "--components", name, "--output", weights]
    command += ["--config", folder / "sizes.toml"]
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
