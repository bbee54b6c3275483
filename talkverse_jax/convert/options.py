"""What a conversion can be told, whatever the family; where the published files lie is the family's `Sources`.
Imports no JAX."""

import dataclasses
from collections.abc import Iterable
from typing import Literal

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import option
from talkverse_jax.weights.asked import Alpha, Asked, alpha_option, rank_option, strength_option


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """One conversion."""

    download: str | None = option(
        "first fetch the files from the Hugging Face hub (or HF_ENDPOINT) into DIR; what is there stays",
        group="from",
        metavar="DIR",
        default=None,
    )
    output: str | None = option(
        "folder of converted weights; a component that is there, made of the same files and settings, is skipped",
        group="to",
        metavar="DIR",
        default=None,
    )
    export: str | None = option(
        "write the transformer in --output back as safetensors into DIR, bit for bit (if it was converted with "
        "--lora_merge false --dtype keep)",
        group="to",
        metavar="DIR",
        default=None,
    )
    components: tuple[str, ...] = option(
        "which models, separated by commas (default: all, optional ones if their files are given)",
        group="how",
        metavar="LIST",
        default=(),
    )
    dtype: Literal["auto", "bfloat16", "float32", "keep", "int8"] = option(
        "number type of the parameters; auto: each component's own, such as bfloat16 for a transformer and float32 for "
        "a VAE; keep: as in the files; int8: of a transformer's linear layers, with a scale for each output, as they "
        "are in a quantised file or rounded to the nearest, all else as with auto",
        group="how",
        default="auto",
    )
    config: str | None = option(
        "TOML file or preset of other sizes, a table for each component (default: the published sizes)",
        group="how",
        metavar="FILE",
        default=None,
    )
    lora_strength: tuple[float, ...] = strength_option("how")
    lora_rank: int | None = rank_option("how")
    lora_alpha: Alpha = alpha_option("how")
    lora_merge: bool = option(
        "add the pairs to the kernels; false: store them beside, to be added on loading", group="how", default=True
    )

    def __post_init__(self):
        if not self.output and (self.export or not self.download):
            raise UserError("missing; give the folder of converted weights", field="output")
        _ = self.asked  # is checked

    @property
    def asked(self) -> Asked:
        """What is said of trained files."""
        return Asked(self.lora_strength, self.lora_rank, self.lora_alpha)

    def chosen(self, components: Iterable[str], usual: Iterable[str] | None = None) -> tuple[str, ...]:
        """Those of the family's components that `components` names, in its order; each once.

        Args:
          usual: where it names none; by default all.

        Raises:
          UserError: it names another.
        """
        known = tuple(components)
        if not self.components:
            return known if usual is None else tuple(usual)
        names = tuple(dict.fromkeys(self.components))
        for name in names:
            if name not in known:
                raise UserError(f"{name!r} is none of {', '.join(known)}", field="components")
        return names
