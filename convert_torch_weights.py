"""The published PyTorch weights become weights for sample.py: `python convert_torch_weights.py --help`."""

import argparse

from talkverse_jax.core.errors import UserError, run_command

COMPONENTS = ("dit", "vae", "text", "audio")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    p = _Parser(
        prog="convert_torch_weights.py",
        description="Convert the published PyTorch weights of TalkVerse-5B (TalkVerse's own file, Wan2.2-TI2V-5B, "
        "wav2vec2-large-xlsr-53-english) into a folder for sample.py.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32, width=110),
        allow_abbrev=False,
    )
    add = p.add_argument_group("from").add_argument
    add("--ckpt_dir", metavar="DIR", help="the folder of Wan-AI/Wan2.2-TI2V-5B (dit, vae, text)")
    add("--lora_ckpt", metavar="FILE", help="the TalkVerse file, talkverse_s2v_5b.safetensors (dit)")
    add("--wav2vec_dir", metavar="DIR", help="the folder of jonatasgrosman/wav2vec2-large-xlsr-53-english (audio; "
        "default: wav2vec2-large-xlsr-53-english in --ckpt_dir)")  # fmt: skip
    add("--download", metavar="DIR", help="fetch these from the Hugging Face hub (or from HF_ENDPOINT) into DIR "
        "first; what is there already is not fetched again")  # fmt: skip
    add = p.add_argument_group("to").add_argument
    add("--output", metavar="DIR", help="folder for the converted weights; what it holds already stays, and a "
        "component that is complete and of the same files and settings is skipped")  # fmt: skip
    add("--export", metavar="DIR", help="write the DiT in --output back as safetensors into DIR, bit for bit (one "
        "that was converted with --lora_merge false --dtype keep)")  # fmt: skip
    add = p.add_argument_group("how").add_argument
    add("--components", metavar="LIST", type=_components, default=COMPONENTS,
        help=f"which, separated by commas (default: {','.join(COMPONENTS)})")  # fmt: skip
    add("--dtype", choices=("auto", "bfloat16", "float32", "keep"), default="auto",
        help="of the parameters; auto: dit and text bfloat16, vae and audio float32; keep: as they came in "
        "(default: auto)")  # fmt: skip
    add("--config", metavar="FILE", help="TOML file of other sizes, a table for each component (default: TalkVerse-5B)")
    add("--lora_rank", metavar="N", type=_positive_int, default=128, help="of the pairs in --lora_ckpt (default: 128)")
    add("--lora_alpha", metavar="X", type=float, default=128.0, help="of the pairs in --lora_ckpt (default: 128)")
    add("--lora_merge", metavar="true|false", type=_boolean, default=True,
        help="add the pairs to the kernels; false: store them beside, to be added when loading (default: true)")  # fmt: skip
    return p


def _components(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in COMPONENTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(COMPONENTS)}")
    return names


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of 1 or more")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def main() -> None:
    args = parser().parse_args()
    if not args.output and not args.download:
        raise UserError("convert_torch_weights.py: --output missing; see convert_torch_weights.py --help")
    given = {name: getattr(args, name) for name in ("ckpt_dir", "lora_ckpt", "wav2vec_dir")}

    from talkverse_jax.tools import convert, export, hub
    from talkverse_jax.pipelines.components import ModelConfigs

    if args.download:
        given |= {name: path for name, path in hub.download(args.download, args.components).items() if not given[name]}
    if args.output and (any(given.values()) or not args.export):
        configs = ModelConfigs.from_toml(args.config) if args.config else ModelConfigs.real_size()
        settings = convert.Settings(args.dtype, args.lora_rank, args.lora_alpha, args.lora_merge)
        convert.convert(args.output, args.components, configs, settings, **given)
    if args.export:
        export.export(args.output, args.export)


if __name__ == "__main__":
    run_command(main)
