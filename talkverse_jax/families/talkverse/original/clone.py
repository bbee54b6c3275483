"""Making the original PyTorch program importable from somebody's clone. Needs the standard library alone."""

import importlib.machinery
import importlib.util
import sys
import types
import warnings
from pathlib import Path

from talkverse_jax.core.errors import UserError

# Readers of media and a text cleaner: imported by the original's modules, unused by what runs here.
UNUSED = ("decord", "ftfy", "librosa")


def use_clone(repo: Path) -> None:
    """Let `wan.*` mean the modules of this clone.

    Their packages import every model of the family and every reader of media; packages without content
    take their place, so that importing one module imports what that needs and no more.

    Raises:
      UserError: `repo` is no clone of the original.
    """
    if not (repo / "wan/modules/s2v/model_s2v_5b.py").is_file():
        raise UserError(f"{repo}: no wan/modules/s2v/model_s2v_5b.py; give a clone of the original TalkVerse")
    warnings.filterwarnings("ignore", message=".*(autocast|CUDA is not available)")
    for name in ("wan", "wan.modules", "wan.modules.s2v", "wan.utils"):
        package = types.ModuleType(name)
        package.__path__ = [str(repo.joinpath(*name.split(".")))]
        sys.modules[name] = package
    for name in UNUSED:
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = _Unused(name)


class _Unused(types.ModuleType):
    """Stands for a package that is not installed and that nothing run here calls."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
