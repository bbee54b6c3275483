"""The frame of every command: errors that a person can mend become one line."""

import sys
from collections.abc import Callable

from talkverse_jax.core.errors import explain


def run_command(main: Callable[[], None]) -> None:
    """Call `main`; a `UserError` or Ctrl-C becomes one line on stderr instead of a traceback.

    Exit codes: 0 success, 2 bad input, 130 interrupted.
    """
    try:
        main()
    except (Exception, KeyboardInterrupt) as error:
        if (explained := explain(error)) is None:
            raise
        line, code = explained
        print(line, file=sys.stderr)
        sys.exit(code)
