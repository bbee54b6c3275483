import pytest

from talkverse_jax.cli.command import run_command
from talkverse_jax.core.errors import UserError, naming


def _raise(error):
    raise error


@pytest.mark.parametrize(
    "error, code, line",
    [
        (UserError("a.wav: is empty; give another"), 2, "error: a.wav: is empty; give another"),
        (OSError(28, "No space left on device", "out.json"), 2, "error: out.json: No space left on device; "),
        (IsADirectoryError(21, "Is a directory", "out.json"), 2, "error: out.json: Is a directory; a folder st"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_one_line_and_an_exit_code(capsys, error, code, line):
    with pytest.raises(SystemExit) as stop:
        run_command(lambda: _raise(error))
    assert stop.value.code == code
    assert capsys.readouterr().err.startswith(line)


def test_an_option_is_shown_as_a_flag_or_as_a_key():
    error = UserError("0: give 1 or more", field="steps")
    assert (str(error), error.reason, error.field) == ("--steps 0: give 1 or more", "0: give 1 or more", "steps")
    assert str(UserError("0: give 1 or more", field="steps", where="run.toml")) == "run.toml: steps: 0: give 1 or more"


@pytest.mark.parametrize("error", [ValueError("a fault of ours"), OSError(5, "Input/output error", "x")])
def test_our_own_faults_keep_their_traceback(error):
    with pytest.raises(type(error)):
        run_command(lambda: _raise(error))


def test_an_error_gets_the_name_it_lacks():
    with pytest.raises(OSError) as error, naming("out.json"):
        raise OSError(28, "No space left on device")
    assert (error.value.errno, error.value.filename) == (28, "out.json")
