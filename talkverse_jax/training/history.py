"""A run whose data change goes on with what it has not seen.

`CHECKPOINTS/data/<digest>.jsonl` holds the samples of a run (`data.ledger`), once for each time that its data
changed. A checkpoint names the file of its time, so whichever checkpoint a run goes on from, it knows what was seen by
then.
"""

import dataclasses
import hashlib
from pathlib import Path

from etils import epath

from talkverse_jax.core.errors import UserError, naming
from talkverse_jax.core.files import is_remote
from talkverse_jax.core.paths import replacing
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.data import ledger
from talkverse_jax.data.batches import BatchOrder
from talkverse_jax.data.ledger import Ledger
from talkverse_jax.sharding.distributed import is_main
from talkverse_jax.training.checkpoint import Checkpoints, RunRecord
from talkverse_jax.training.feed import Data
from talkverse_jax.training.video_options import VideoOptions

_FOLDER = "data"


def began_with(data: Data, record: RunRecord | None) -> str:
    """By what a run's first data are named: as the checkpoint has it, unless an older program wrote that, which noted
    no samples, and these are others.
    """
    if record and (record.data or record.run.get("data") == data.digest_of_before[:12]):
        return record.run["data"]
    return ledger.digest(data.listed)[:12]


def follow(data: Data, record: RunRecord, folder: epath.Path, options: VideoOptions, reporter: Reporter) -> Data:
    """The data of a run that goes on from a checkpoint: what was there before has its number, what was seen in this
    epoch is not shown again in it.

    Args:
      data: as they are now, under any numbers.
      folder: of the checkpoints.

    Raises:
      UserError: they have changed, and the options do not say that the run shall go on; or the file with the samples is
        missing or damaged.
    """
    if not record.data:  # of an older program, and `began_with` has found that they are the same
        return data
    known = _read(folder / _FOLDER / f"{record.data}.jsonl")
    changes = known.changes(data.listed)
    if changes:
        told = f"the data are not those of step {record.step}: {changes}"
        if options.data_changed == "stop":
            raise UserError(
                f"{told}; give those, or --data_changed go_on: the rest of this epoch then shows what it has not shown"
            )
        older = _order(data, known)
        epoch, unseen = older.epoch(record.batch), older.unseen(record.batch)
        known = known.after(data.listed, record.batch, epoch, unseen)
        reporter.say(f"{told}; goes on: {sum(len(each.owed) for each in known.present)} are left of epoch {epoch}")
    return dataclasses.replace(
        data,
        source=data.source.numbered(known.places(data.listed)),
        plan=_order(data, known),
        ledger=known,
    )


def keep(data: Data, checkpoints: Checkpoints) -> str:
    """Write the samples of a run down beside its checkpoints; gives the name by which a checkpoint finds them."""
    text = data.ledger.text()
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = checkpoints.folder / _FOLDER / f"{name}.jsonl"
    if is_main() and not path.exists():
        with naming(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if is_remote(path):
                path.write_text(text)  # a put is whole or nothing
            else:
                with replacing(Path(path)) as partial:
                    partial.write_text(text, encoding="utf-8")
    return name


def _order(data: Data, known: Ledger) -> BatchOrder:
    return known.order(data.plan.batch_size, data.plan.seed)


def _read(path: epath.Path) -> Ledger:
    try:
        text = path.read_text()
    except OSError:
        raise UserError(f"{path}: missing; the checkpoint needs it to know what was seen; put it back") from None
    if hashlib.sha256(text.encode()).hexdigest()[:16] != path.stem:
        raise UserError(f"{path}: damaged; put it back, or begin anew in another folder")
    return Ledger.read(text, str(path))
