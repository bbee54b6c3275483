"""What a dump of the original can be told. Imports neither JAX nor torch."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.families.talkverse.original.inputs import Size

WAV2VEC_FOLDER = "wav2vec2-large-xlsr-53-english"  # where the original looks for it in --ckpt_dir

# The options that say where each component's weights lie.
WEIGHTS = {
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


@dataclasses.dataclass(frozen=True)
class DumpOptions:
    """One bundle."""

    repo: str = option(WANTED["repo"], group="input", metavar="DIR")
    out: str = option("the bundle to write (.safetensors)", group="output", metavar="FILE")
    component: Literal["dit", "vae", "umt5_encoder", "wav2vec2", "pipeline"] = option(
        "what to run", group="case", default="dit"
    )
    ckpt_dir: str | None = option(WANTED["ckpt_dir"], group="input", metavar="DIR", default=None)
    lora_ckpt: str | None = option(
        f"{WANTED['lora_ckpt']} (dit, pipeline)", group="input", metavar="FILE", default=None
    )
    lora_rank: int = option("rank of its LoRA pairs", group="input", metavar="N", default=128)
    lora_alpha: int = option("their alpha", group="input", metavar="N", default=128)
    wav2vec_dir: str | None = option(
        f"{WANTED['wav2vec_dir']} (default: that name in --ckpt_dir)", group="input", metavar="DIR", default=None
    )
    height: int = option("pixels, a multiple of 32 from 128 up", group="case", metavar="N", default=128)
    width: int = option("pixels, a multiple of 32 from 128 up", group="case", metavar="N", default=128)
    frames: int = option("frames of a clip, a multiple of 4", group="case", metavar="N", default=20)
    seed: int = option("seed of the random inputs", group="case", metavar="N", default=0)
    first_clip: bool = option("dit: without motion tokens, as in a first clip", group="case", default=False)
    num_clip: int = option("pipeline: clips", group="case", metavar="N", default=2)
    sample_steps: int = option("pipeline: steps", group="case", metavar="N", default=4)
    sample_solver: Literal["unipc", "dpm++"] = option("pipeline: solver", group="case", default="unipc")
    config: str | None = option(
        "JSON file of other sizes: {dit, vae, umt5_encoder}, each as in a bundle's config",
        group="input",
        metavar="FILE",
        default=None,
    )

    def __post_init__(self):
        for name in ("lora_rank", "num_clip", "sample_steps"):
            if (value := getattr(self, name)) < 1:
                raise UserError(f"{value}: give 1 or more", field=name)
        _ = self.size

    @property
    def size(self) -> Size:
        """Of what is run."""
        return Size(self.height, self.width, self.frames)

    def located(self) -> "DumpOptions":
        """The same with paths that exist, made absolute.

        Raises:
          UserError: a path is missing or leads nowhere.
        """
        values: dict[str, Any] = dataclasses.asdict(self)
        if self.component == "wav2vec2" and self.ckpt_dir and not self.wav2vec_dir:
            values["wav2vec_dir"] = str(Path(self.ckpt_dir, WAV2VEC_FOLDER))
        needed = {"repo", *WEIGHTS[self.component]} | ({"config"} if self.config else set())
        for name in filter(needed.__contains__, WANTED):
            if values[name] is None:
                raise UserError(f"is missing; give {WANTED[name]}", field=name)
            if not Path(values[name]).exists():
                raise UserError(f"{values[name]}: does not exist; give {WANTED[name]}", field=name)
            values[name] = str(Path(values[name]).resolve())
        out = Path(self.out).resolve()
        if not out.parent.is_dir():
            raise UserError(f"{out}: its folder does not exist; make it or give another", field="out")
        values["out"] = str(out)
        return DumpOptions(**values)

    def path(self, name: str) -> Path:
        """What an option names, after `located`."""
        return Path(getattr(self, name))

    def weights(self, files: Iterable[Path]) -> dict[str, Any]:
        """The entry `weights` of a bundle: the options that name the component's weights, and the size in bytes of each
        file that was read."""
        entry = {name: getattr(self, name) for name in WEIGHTS[self.component]}
        return entry | {"bytes": {file.name: file.stat().st_size for file in files}}
