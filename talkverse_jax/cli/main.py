"""`talkverse-jax COMMAND`, which is `python -m talkverse_jax COMMAND`."""

import difflib
import importlib
import sys

import talkverse_jax
from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import UserError

PROG = "talkverse-jax"

# Each command's module, whose `main(argv, prog)` runs it, and what it does.
COMMANDS = {
    "sample": ("talkverse_jax.cli.sample", "make a talking video, or many"),
    "stream": ("talkverse_jax.cli.stream", "make a live video of a picture and a sound that comes"),
    "client": ("talkverse_jax.cli.client", "have a server make a talking video, and fetch it"),
    "gradio": ("talkverse_jax.cli.gradio", "show a page of Gradio that makes videos with a server"),
    "serve": ("talkverse_jax.cli.serve", "serve talking videos over HTTP, with a page"),
    "serve-worker": ("talkverse_jax.cli.serve_worker", "make the videos of servers that share a database"),
    "train": ("talkverse_jax.cli.train", "train the transformer on videos"),
    "train-tiny-decoder": ("talkverse_jax.cli.train_tiny_decoder", "train a tiny decoder for a VAE, on videos"),
    "convert": ("talkverse_jax.cli.convert", "convert the published PyTorch weights"),
    "verify": ("talkverse_jax.cli.verify", "look for damage in converted weights"),
    "prepare": ("talkverse_jax.cli.prepare", "encode a data set of videos once, for training"),
    "export": ("talkverse_jax.cli.export", "write weights, or what a run has learned, as safetensors"),
    "plan": ("talkverse_jax.cli.plan", "tell whether a run fits a machine, and how fast it can be"),
    "warm": ("talkverse_jax.cli.warm", "compile a run's programs before there is a run, for any machine"),
    "plan-table": ("talkverse_jax.cli.plan_table", "write docs/tpu.md: the plan of every machine"),
    "parity": ("talkverse_jax.cli.parity", "compare our numbers with the original's"),
    "evaluate": ("talkverse_jax.cli.evaluate", "measure talking videos"),
    "contact-sheet": ("talkverse_jax.cli.contact_sheet", "show a video and its sound on one page"),
    "list-batch": ("talkverse_jax.cli.list_batch", "make the list of a batch from folders"),
    "dump-original": ("talkverse_jax.cli.dump_original", "write a reference bundle with the original program"),
    "random-checkpoint": ("talkverse_jax.cli.random_checkpoint", "write random weights in the published layout"),
    "toy-world": ("talkverse_jax.toy.world", "draw videos of people who talk, to train on"),
}


def main() -> None:
    """Run the command that `sys.argv` names; ends the process."""
    run_command(lambda: run(sys.argv[1:]))


def run(argv: list[str]) -> None:
    """Run a command.

    Raises:
      UserError: there is no such command, or it cannot use what it was given.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
    elif argv[0] in ("-V", "--version"):
        print(f"{PROG} {talkverse_jax.__version__}")
    elif argv[0] in COMMANDS:
        importlib.import_module(COMMANDS[argv[0]][0]).main(argv[1:], f"{PROG} {argv[0]}")
    else:
        near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"see {PROG} --help"
        raise UserError(f"{argv[0]}: no such command; {hint}")


def _help() -> str:
    about = (talkverse_jax.__doc__ or "").partition("\n")[0]
    lines = [f"usage: {PROG} COMMAND [--flag VALUE ...]", "", about, "", "commands:"]
    lines += [f"  {name:18} {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join([*lines, "", f"{PROG} COMMAND --help explains a command, {PROG} --version tells the version."])
