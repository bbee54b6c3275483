"""Why a job failed, as its client is told: the client knows nothing of this machine's folders."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talkverse_jax.core import options
from talkverse_jax.core.errors import UserError, disk_is_full, out_of_memory
from talkverse_jax.run.video import NotFinite

_LOST = "the files of this video are gone; send them again"
_MOST = 500  # characters of a message


def failure_at(error: Exception, folder: Path, paths: Mapping[str, Any], pack: int) -> dict[str, Any]:
    """What is to be told of an error that ended a job.

    Args:
      folder: of its files.
      paths: of these, the options that are paths.
      pack: videos that are made together.
    """
    if (name := missing_input(folder, paths)) is not None:
        return {"say": "failed", "code": "input_lost", "message": _LOST, "param": name, "trace": ""}
    return failure_of(error, folder, pack)


def failure_of(error: Exception, folder: Path, pack: int = 1) -> dict[str, Any]:
    """What is to be told of an error that ended a job, all of whose files are there."""
    if disk_is_full(error):
        return {"say": "disk_full"}
    param = error.field if isinstance(error, UserError) else None
    if isinstance(error, NotFinite):
        code, message = "not_finite", "the model gave values that are no numbers; try another seed or fewer steps"
    elif out_of_memory(error):
        code, message = "out_of_memory", "the machine's memory is too small for it; ask for a smaller size"
        if pack > 1:
            message += f", or have the server started with a --pack_size below {pack}"
    elif isinstance(error, UserError):
        code, message = "generation_failed", str(error).replace(f"{folder}/", "").splitlines()[0][:_MOST]
    else:
        code, message = "generation_failed", f"the server failed at it ({type(error).__name__}); its log knows more"
    trace = "" if isinstance(error, UserError) else "".join(traceback.format_exception(error))
    return {"say": "failed", "code": code, "message": message, "param": param, "trace": trace}


def missing_input(folder: Path, files: Mapping[str, Any]) -> str | None:
    """The option of a file that is gone, of those that are paths."""
    for name, value in files.items():
        for path in (value,) if isinstance(value, str) else value or ():
            if path != options.NO_FILE and not (folder / path).is_file():
                return name
    return None
