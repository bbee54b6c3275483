"""What a worker refuses before it is ready."""

import io
import json
from types import SimpleNamespace

from talkverse_jax.core import compile_cache
from talkverse_jax.pipeline import registry
from talkverse_jax.serve.worker import main
from talkverse_jax.serve.worker.process import WorkerSetup


def test_a_model_that_makes_one_video_at_a_time_takes_no_pack(monkeypatch):
    def load(weights, machine, **how):
        return SimpleNamespace(pack=1)

    monkeypatch.setattr(registry, "find", lambda family: SimpleNamespace(load_pipeline=load))
    monkeypatch.setattr(compile_cache, "enable", lambda: None)
    said = io.BytesIO()
    worker = main._Worker(said, set())
    nothing: dict = dict(family="x", weights=None, machine=None, settings=None)
    assert worker.load(WorkerSetup(**nothing))
    assert not worker.load(WorkerSetup(**nothing, pack=2))
    message = "--pack_size 2: this model makes one video at a time; leave it out"
    assert json.loads(said.getvalue()) == {"say": "unusable", "message": message}
