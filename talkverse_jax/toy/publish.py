"""Puts trained parts of the toy model together as the real one is published, for `convert_torch_weights.py`.

    python -m talkverse_jax.toy.publish --model configs/model_toy.toml --vae outputs/toy/vae/Wan2.2_VAE.pth \\
      --audio outputs/toy/audio.safetensors --dit outputs/toy/train/step-N.safetensors --output assets/toy

UMT5 has random weights, and without `--dit` so has the transformer: what its training begins with.
"""

import dataclasses
import shutil
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from talkverse_jax.cli.command import run_command
from talkverse_jax.cli.flags import parse
from talkverse_jax.convert.random_checkpoint import write_random_checkpoint
from talkverse_jax.core import presets
from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.options import option
from talkverse_jax.core.paths import existing_file
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.published import ADAPTER, DIT_STEM, VAE_FILE
from talkverse_jax.weights import safetensors_io as safetensors
from talkverse_jax.weights.published_files import write_safetensors

_BF16 = np.dtype(ml_dtypes.bfloat16)


@dataclasses.dataclass(frozen=True)
class PublishOptions:
    """One run of `talkverse_jax.toy.publish`."""

    model: str = option("TOML file of sizes", group="input", metavar="FILE")
    vae: str = option("what talkverse_jax.toy.train_vae wrote", group="input", metavar="FILE")
    audio: str = option("what talkverse_jax.toy.train_audio wrote", group="input", metavar="FILE")
    output: str = option("folder for all files", group="output", metavar="DIR")
    dit: str | None = option(
        "what train.py --init all --finetune_all wrote (default: random)",
        group="input",
        metavar="FILE",
        default=None,
    )
    seed: int = option("of what is random", group="input", metavar="N", default=0)


def publish(options: PublishOptions) -> None:
    """Write the files.

    Raises:
      UserError: a file is missing, or holds not the whole transformer or wav2vec2 of that size.
    """
    configs = FAMILY.configs_from_toml(presets.find(options.model))
    vae = existing_file(options.vae, "what train_vae wrote")
    audio = existing_file(options.audio, "what train_audio wrote")
    random = ("text", "audio") if options.dit else ("dit", "text", "audio")
    paths = write_random_checkpoint(FAMILY, options.output, configs, options.seed, random)
    target = paths["ckpt_dir"] / VAE_FILE
    with naming(target):
        shutil.copyfile(vae, target)
    shapes = {name: FAMILY.components[name].torch_shapes(getattr(configs, name)) for name in ("dit", "audio")}
    heard = _all_of(audio, shapes["audio"], "the whole wav2vec2 of --model; give what train_audio wrote")
    _replace(paths["wav2vec_dir"] / "model.safetensors", heard)
    if options.dit:
        whole = "the whole transformer of --model; give what --finetune_all trained"
        _write_dit(_all_of(options.dit, shapes["dit"], whole), paths["ckpt_dir"], paths["lora_ckpt"])


def _all_of(source: str | Path, shapes: dict[str, tuple[int, ...]], what: str) -> dict[str, np.ndarray]:
    tensors = safetensors.read_file(source).tensors
    if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
        raise UserError(f"{source}: not {what}")
    return tensors


def _replace(path: Path, new: dict[str, np.ndarray]) -> None:
    """Some tensors of a file by others."""
    old = {name: np.array(tensor) for name, tensor in safetensors.read_file(path).tensors.items()}
    tensors = {name: np.asarray(new.get(name, value)).astype(value.dtype) for name, value in old.items()}
    write_safetensors(path, {name: (x.dtype, x.shape) for name, x in tensors.items()}, lambda _: iter(tensors.values()))


def _write_dit(tensors: dict[str, np.ndarray], folder: Path, adapter: Path) -> None:
    """The tensors of a base model and those that TalkVerse adds to it, in bfloat16."""
    for path, new in ((folder / f"{DIT_STEM}.safetensors", False), (adapter, True)):
        shapes = {name: (_BF16, x.shape) for name, x in tensors.items() if ADAPTER.is_new(name) == new}
        write_safetensors(path, shapes, lambda shapes: (np.asarray(tensors[name]).astype(_BF16) for name in shapes))


def main(argv: list[str] | None = None) -> None:
    description = "Put the trained parts of the toy model together as the real one is published."
    options = parse({"publish": PublishOptions}, "talkverse_jax.toy.publish", description, argv)["publish"]
    publish(options)
    print(f"published in {options.output}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
