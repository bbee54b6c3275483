"""Make rows of docs/tpu.md anew, and write the page and the file beside it, which keeps what each row says."""

from collections.abc import Callable
from pathlib import Path

from talkverse_jax.core.paths import replacing
from talkverse_jax.core.reporting import Reporter
from talkverse_jax.plan import table_rows
from talkverse_jax.plan.kernels import Dump
from talkverse_jax.plan.options import TableOptions
from talkverse_jax.plan.table_cases import Case, chosen
from talkverse_jax.plan.table_page import page_of
from talkverse_jax.plan.table_rows import TableRow


def run(
    options: TableOptions,
    reporter: Reporter,
    dump: Dump | None,
    make: Callable[[Case, Dump | None], TableRow] = table_rows.make,
) -> Path:
    """Make rows anew and leave the others. The file and the page are written after each: what is interrupted keeps
    the rows that are finished.

    Args:
      make: what plans a row.

    Raises:
      UserError: no row has such a name, or the file of the rows cannot be used.
    """
    page, kept = Path(options.output), options.rows_file
    rows, wanted = table_rows.read(kept), chosen(options.only)
    with reporter.bar(total=len(wanted), what="planning", unit="row") as bar:
        for case in wanted:
            rows[case.key] = make(case, dump)
            table_rows.write(kept, rows)
            with replacing(page) as partial:
                partial.write_text(page_of(rows), encoding="utf-8")
            bar.update(1)
    reporter.say(str(page))
    return page
