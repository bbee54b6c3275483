"""What a worker refuses before it is ready."""

import io
import json
from types import SimpleNamespace

import pytest

from talkverse_jax.core import compile_cache
from talkverse_jax.core.errors import UserError
from talkverse_jax.pipeline import registry
from talkverse_jax.serve.worker import main
from talkverse_jax.serve.worker.process import WorkerSetup


def test_a_model_that_makes_one_video_at_a_time_takes_no_pack(monkeypatch):
    def load(weights, machine, **how):
        return SimpleNamespace(pack=1)

    monkeypatch.setattr(registry, "find", lambda family: SimpleNamespace(load_pipeline=load))
    monkeypatch.setattr(compile_cache, "enable", lambda: None)
    worker = main._Worker(io.BytesIO(), set(), {})
    nothing: dict = dict(family="x", weights=None, machine=None, settings=None)
    worker.load(WorkerSetup(**nothing))
    with pytest.raises(UserError, match="^--pack_size 2: this model makes one video at a time; leave it out$"):
        worker.load(WorkerSetup(**nothing, pack=2))


def test_the_front_is_told_what_is_unusable():
    said = io.BytesIO()
    main._Worker(said, set(), {}).say_unusable(UserError("2: give less", field="pack_size"))
    assert json.loads(said.getvalue()) == {"say": "unusable", "message": "--pack_size 2: give less"}
