"""Programs are made ready beside the reading of weights, and are then those that a run calls."""

import contextlib
import threading
import types
from typing import Any

import jax
import pytest

from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.families.multitalk import programs as of_multitalk
from talkverse_jax.families.talkverse import programs as of_talkverse
from talkverse_jax.pipeline.ahead import made_ready
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.programs import Call, number
from talkverse_jax.run.load import load_pipeline
from tests.families.multitalk.test_pipeline import folder, job, load  # noqa: F401
from tests.run.test_worker import arguments  # noqa: F401

LARGE = {"jit(encode)", "jit(prepare)", "jit(denoising_step)", "jit(decode)", "jit(modulations)"}
MODELS: Any = types.SimpleNamespace(precision=contextlib.nullcontext())


@contextlib.contextmanager
def _built():
    """The names of the large programs that the block compiles or loads."""
    names = []

    def listen(event: str, _: float, fun_name: str = "", **__: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and fun_name in LARGE:
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def _make_all(pipeline, calls) -> None:
    """Make all of them ready."""
    done = threading.Event()

    def told():
        yield from calls
        done.set()

    with made_ready(pipeline.models, told()):
        assert done.wait(500)


def test_programs_are_made_beside_the_block_and_no_longer():
    begun, ended, entered = [], threading.Event(), threading.Event()

    def calls():
        for index in range(3):
            begun.append((index, threading.current_thread().name))
            if index == 1:
                entered.set()
                assert ended.wait(10)
            yield Call(jax.jit(lambda x: x + 1), (number(),))

    watch = Stopwatch("loading")
    with watch.phase("loading"), made_ready(MODELS, calls()):
        assert entered.wait(10)
        threading.Timer(0.2, ended.set).start()
    assert begun == [(0, "programs"), (1, "programs")] and not any(t.name == "programs" for t in threading.enumerate())
    assert watch.seconds["compiling"] > 0.1  # what was waited for


def test_what_cannot_be_compiled_is_left_to_whoever_calls_it():
    class Refused:
        def lower(self, *_):
            raise jax.errors.JaxRuntimeError("no room")

    with made_ready(MODELS, [Call(Refused(), ())]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"sample_solver": "renoise", "sample_guide_scale": 1.0}])
def test_talkverse_makes_none_of_them_anew(arguments, settings):  # noqa: F811
    given = {name: str(value) if hasattr(value, "parent") else value for name, value in (arguments | settings).items()}
    pipeline = load_pipeline(given.pop("weights"), dtype=given.pop("dtype"))
    made = pipeline.job(**given)
    encoded = pipeline.encode(made, Events())
    assert encoded.timeline.clips == 2
    how = made.settings, pipeline.machine, encoded.inputs.size, None
    found = of_talkverse.calls(pipeline.configs, *how)
    _make_all(pipeline, of_talkverse.coming(found, True, True))
    with _built() as again:
        state = pipeline.start(encoded, Events())
        while not state.is_done:
            [(_, _, state)] = pipeline.advance([state], [Events()])
    assert again == []


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["multitalk", "infinitetalk"])
@pytest.mark.parametrize("people", [1, 2])
def test_multitalk_makes_none_of_them_anew(folder, recipe, people):  # noqa: F811
    pipeline = load(folder / recipe)
    made = job(pipeline, folder, people=people)
    encoded = pipeline.encode(made, Events())
    how = made.settings, pipeline.machine, encoded.inputs.size, None
    found = of_multitalk.calls(pipeline.configs, *how, speakers=[people])
    _make_all(pipeline, of_multitalk.coming(found))
    with _built() as again:
        state = pipeline.start(encoded, Events())
        while not state.is_done:
            [(_, _, state)] = pipeline.advance([state], [Events()])
    assert again == []


def test_the_calls_of_one_video_depend_on_its_clips():
    names = ["text block, 16 tokens", "encode, picture", "step, first clip", "encode", "step", "decode"]
    made = {name: lambda name=name: name for name in names}
    calls: Any = types.SimpleNamespace(made=made)
    assert list(of_talkverse.coming(calls, True, False)) == ["encode, picture", "step, first clip"]
    assert list(of_talkverse.coming(calls, False, True)) == ["encode, picture", "encode", "step", "decode"]
