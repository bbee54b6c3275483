"""The command line of `convert_torch_weights.py`."""

import argparse

from talkverse_jax.core.errors import UserError
from talkverse_jax.core.options import CommandParser, boolean, number, path

COMPONENTS = (
    "dit",
    "vae",
    "text",
    "audio",
)  # those of families/talkverse/components.py, which takes long to import
_PROG = "convert_torch_weights.py"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Raises:
      UserError: a flag or value is unknown, or there is nothing to do.
    """
    args = _parser().parse_args(argv)
    if not args.output and (args.export or not args.download):
        raise UserError(f"{_PROG}: --output missing; see {_PROG} --help")
    return args


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=_PROG,
        description="Convert the published PyTorch weights of TalkVerse-5B into a folder for sample.py.",
    )
    add = parser.add_argument_group("from").add_argument
    add("--ckpt_dir", metavar="DIR", type=path, help="the folder of Wan-AI/Wan2.2-TI2V-5B (dit, vae, text)")
    add(
        "--lora_ckpt",
        metavar="FILE",
        type=path,
        help="the TalkVerse file, talkverse_s2v_5b.safetensors (dit)",
    )
    add(
        "--wav2vec_dir",
        metavar="DIR",
        type=path,
        help="the folder of jonatasgrosman/wav2vec2-large-xlsr-53-english (audio; default: the folder of "
        "that name in --ckpt_dir)",
    )
    add(
        "--download",
        metavar="DIR",
        type=path,
        help="fetch these from the Hugging Face hub (or HF_ENDPOINT) into DIR first; what is there stays",
    )
    add = parser.add_argument_group("to").add_argument
    add(
        "--output",
        metavar="DIR",
        type=path,
        help="folder of converted weights; a component in it that is complete and of the same files and "
        "settings is skipped",
    )
    add(
        "--export",
        metavar="DIR",
        type=path,
        help="write the DiT in --output back as safetensors into DIR, bit for bit (if it was converted with "
        "--lora_merge false --dtype keep)",
    )
    add = parser.add_argument_group("how").add_argument
    add(
        "--components",
        metavar="LIST",
        type=_components,
        default=COMPONENTS,
        help=f"which, separated by commas (default: {','.join(COMPONENTS)})",
    )
    add(
        "--dtype",
        choices=("auto", "bfloat16", "float32", "keep"),
        default="auto",
        help="of the parameters; auto: dit and text bfloat16, vae and audio float32; keep: as they came in "
        "(default: auto)",
    )
    add(
        "--config",
        metavar="FILE",
        type=path,
        help="TOML file of other sizes, a table for each component (default: TalkVerse-5B)",
    )
    pairs = "of the pairs in --lora_ckpt (default: 128)"
    add("--lora_rank", metavar="N", type=_positive_int, default=128, help=f"rank {pairs}")
    add("--lora_alpha", metavar="X", type=number, default=128.0, help=f"alpha {pairs}")
    add(
        "--lora_merge",
        metavar="true|false",
        type=boolean,
        default=True,
        help="add the pairs to the kernels; false: store them beside, to be added on loading (default: true)",
    )
    return parser


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
