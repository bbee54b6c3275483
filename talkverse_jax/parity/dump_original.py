"""Write a reference bundle from the original PyTorch program and the weights you hold.

    PYTHONPATH=THIS_CHECKOUT python -m talkverse_jax.parity.dump_original --repo THEIR_CLONE \
        --ckpt_dir Wan2.2-TI2V-5B --lora_ckpt talkverse_s2v_5b.safetensors --out dit.safetensors

Runs in the Python that the original runs in (torch and its requirements; jax is not needed), in float32 on
the CPU. `talkverse_jax.parity.compare` then compares our numbers with the bundle (docs/parity.md).
"""

import argparse
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from talkverse_jax.core.errors import UserError, run_command
from talkverse_jax.parity.original.clone import use_clone
from talkverse_jax.parity.original.inputs import Size

WAV2VEC_FOLDER = "wav2vec2-large-xlsr-53-english"  # where the original looks for it in --ckpt_dir

# The flags that say where each component's weights lie.
WEIGHT_FLAGS = {
    "dit": ("ckpt_dir", "lora_ckpt", "lora_rank", "lora_alpha"),
    "vae": ("ckpt_dir",),
    "umt5_encoder": ("ckpt_dir",),
    "wav2vec2": ("wav2vec_dir",),
    "pipeline": ("ckpt_dir", "lora_ckpt", "lora_rank", "lora_alpha"),
}

WANTED = {
    "repo": "a clone of the original TalkVerse",
    "ckpt_dir": "the folder of Wan2.2-TI2V-5B",
    "lora_ckpt": "the TalkVerse file, talkverse_s2v_5b.safetensors",
    "wav2vec_dir": f"the folder of {WAV2VEC_FOLDER}",
    "config": "a JSON file of sizes",
}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line: paths that exist, made absolute, and `config` read.

    Raises:
      UserError: a path is missing or leads nowhere; --config is not JSON.
    """
    parser = argparse.ArgumentParser(
        prog="python -m talkverse_jax.parity.dump_original",
        description="Write a reference bundle from the original program and its weights (docs/parity.md).",
    )
    add = parser.add_argument
    add("--repo", required=True, help=WANTED["repo"])
    add("--component", default="dit", choices=tuple(WEIGHT_FLAGS), help="what to run (default: dit)")
    add("--ckpt_dir", help=WANTED["ckpt_dir"])
    add("--lora_ckpt", help=f"{WANTED['lora_ckpt']} (dit, pipeline)")
    add("--lora_rank", type=int, default=128)
    add("--lora_alpha", type=int, default=128)
    add("--wav2vec_dir", help=f"{WANTED['wav2vec_dir']} (default: that name in --ckpt_dir)")
    add("--out", required=True, help="the bundle to write (.safetensors)")
    add("--height", type=int, default=128, help="pixels (default: 128)")
    add("--width", type=int, default=128, help="pixels (default: 128)")
    add("--frames", type=int, default=20, help="frames of a clip (default: 20)")
    add("--seed", type=int, default=0, help="of the random inputs (default: 0)")
    add("--first_clip", action="store_true", help="dit: drop the motion tokens, as in a first clip")
    add("--num_clip", type=int, default=2, help="pipeline: clips (default: 2)")
    add("--sample_steps", type=int, default=4, help="pipeline: steps (default: 4)")
    add("--sample_solver", default="unipc", choices=("unipc", "dpm++"), help="pipeline (default: unipc)")
    add("--config", help="JSON file of other sizes: {dit, vae, umt5_encoder}, each as in a bundle's config")
    args = parser.parse_args(argv)

    if args.component == "wav2vec2" and args.ckpt_dir and not args.wav2vec_dir:
        args.wav2vec_dir = Path(args.ckpt_dir, WAV2VEC_FOLDER)
    needed = {"repo", *WEIGHT_FLAGS[args.component]} | ({"config"} if args.config else set())
    for name, wanted in WANTED.items():
        if name not in needed:
            continue
        value = getattr(args, name)
        if value is None:
            raise UserError(f"--{name}: not given; give {wanted}")
        if not Path(value).exists():
            raise UserError(f"--{name}: {value} does not exist; give {wanted}")
        setattr(args, name, Path(value).resolve())
    for name in ("lora_rank", "num_clip", "sample_steps"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name}: {getattr(args, name)} cannot be used; give 1 or more")
    args.out = Path(args.out).resolve()
    if not args.out.parent.is_dir():
        raise UserError(f"--out: folder {args.out.parent} does not exist; make it or give another")
    try:
        args.config = json.loads(args.config.read_text()) if args.config else {}
    except ValueError as error:
        raise UserError(f"--config: {args.config} is not JSON ({error}); give {WANTED['config']}") from None
    return args


def weights_by_path(args: argparse.Namespace, files: Iterable[Path]) -> dict[str, Any]:
    """The metadata entry `weights`: the component's weight flags, and the size in bytes of each file read."""
    given = {name: getattr(args, name) for name in WEIGHT_FLAGS[args.component]}
    entry = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    return entry | {"bytes": {file.name: file.stat().st_size for file in files}}


def write_bundle(path: Path, meta: Mapping[str, Any], groups: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write a reference bundle; a file already there is replaced only once the new one is whole.

    Args:
      meta: the metadata entry `bundle`.
      groups: tensors by name, under `inputs`, `outputs`, `taps`.
    """
    tensors = {
        f"{group}/{name}": np.ascontiguousarray(value)
        for group, values in groups.items()
        for name, value in values.items()
    }
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, metadata={"bundle": json.dumps(meta)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    size = Size(args.height, args.width, args.frames)
    if importlib.util.find_spec("torch") is None:
        raise UserError("torch: not installed in this Python; run the tool in the original's environment")
    use_clone(args.repo)

    from talkverse_jax.parity.original.cases import CASES

    case = CASES[args.component](args, size)
    meta = {"component": args.component, "config": case.config} | case.extra
    meta["weights"] = weights_by_path(args, case.files)
    write_bundle(args.out, meta, {"inputs": case.inputs, "outputs": case.outputs, "taps": case.taps})
    print(f"{args.out}: {args.component}, {len(case.outputs)} outputs, {len(case.taps)} values on the way")


if __name__ == "__main__":
    run_command(main)
