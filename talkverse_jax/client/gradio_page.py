"""A page of Gradio that asks a server for talking videos, for Spaces and notebooks:

    from talkverse_jax.client import Client
    from talkverse_jax.client.gradio_page import gradio_page

    gradio_page(Client("http://127.0.0.1:8765")).launch()

Whoever sees the page makes videos with the client's key. The server's own page, at its address, plays videos while they
are made and keeps those of its user; this one shows the finished video.
"""

import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import gradio  # pyright: ignore[reportMissingImports]  # of an extra that developers need not have

from talkverse_jax.client import ApiError, Client, Event, Video, VideoFailed

# The settings that the page shows, where the server has them. What each does is told in the server's own words.
_SETTINGS = {
    "size_bucket": "Size",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "audio_guidance_scale": "Guidance by sound",
    "sample_solver": "Solver",
    "num_clip": "Clips",
    "seed": "Seed",
    "negative_prompt": "Not to be seen",
}
# What a box shows where nothing is asked for, as Gradio shows no empty one, and what that means.
_NONE = {"num_clip": (0, "0: until the sound ends"), "seed": (-1, "-1: another each time")}
_CACHE = (3600, 86400)  # seconds between two looks for old files, and their age


def gradio_page(client: Client) -> gradio.Blocks:
    """The page, as `launch` shows it.

    Raises:
      ApiError: the server refuses.
      ConnectionError: it does not answer.
    """
    able = client.models()[0]["capabilities"]
    with gradio.Blocks(title="Talking video", analytics_enabled=False, delete_cache=_CACHE) as page:
        gradio.Markdown("# Talking video\nA picture of a person, a sound and a few words become a video.")
        with gradio.Row():
            with gradio.Column():
                seen = _seen(able)
                sound = _sound(client, able)
                prompt = _prompt(client, able, seen)
                settings = _settings(able["settings"])
            with gradio.Column():
                make = gradio.Button("Make video", variant="primary")
                status = gradio.Markdown("", elem_id="status")
                stop = gradio.Button("Stop", visible=False)
                result = gradio.Video(label="Talking video", interactive=False)
        id = gradio.State(None)
        inputs = [*seen, sound, prompt, *settings.values()]
        # Videos wait in the server's queue, not in Gradio's.
        make.click(partial(_make, client, tuple(settings)), inputs, [status, stop, result, id], concurrency_limit=None)
        stop.click(partial(_stop, client), id, None, concurrency_limit=None)
    return page


def _seen(able: Mapping[str, Any]) -> list[Any]:
    """A picture, and a video to dub where the model can."""
    picture = partial(
        gradio.Image, label="Picture", type="filepath", sources=["upload", "webcam", "clipboard"], height=320
    )
    if not able["dubbing"]:
        return [picture()]
    with gradio.Tab("A picture"):
        shown = picture()
    with gradio.Tab("A video to dub"):
        film = gradio.Video(label="Video, in place of the picture", sources=["upload"], height=320)
    return [film, shown]


def _sound(client: Client, able: Mapping[str, Any]) -> gradio.Audio:
    """A file, a recording, or what a voice makes of a text."""
    sound = gradio.Audio(label="Sound", type="filepath", sources=["upload", "microphone"])
    if able["speech"]:
        with gradio.Accordion("Sound from text", open=False):
            text = gradio.Textbox(label="Text to speak", lines=2, max_length=4096)
            voices = list(client.voices())
            voice = gradio.Dropdown(voices, label="Voice", value=next(iter(voices), None))
            gradio.Button("Speak", size="sm").click(partial(_speak, client), [text, voice], sound)
    return sound


def _prompt(client: Client, able: Mapping[str, Any], seen: list[Any]) -> gradio.Textbox:
    prompt = gradio.Textbox(label="Prompt", value="A person talks to the camera.", lines=3, max_length=32000)
    if able["prompt_enhancement"]:
        gradio.Button("Improve prompt", size="sm").click(partial(_improve, client), [prompt, *seen], prompt)
    return prompt


def _settings(known: Mapping[str, Any]) -> dict[str, Any]:
    """A control for each setting that the server has, with its range and default."""
    with gradio.Accordion("Settings", open=False):
        return {name: _control(name, known[name]) for name in _SETTINGS if name in known}


def _control(name: str, told: Mapping[str, Any]) -> Any:
    value, more = _NONE.get(name, (told["default"], None))
    words = "; ".join(filter(None, (told.get("description"), more)))
    shared: dict[str, Any] = {"label": _SETTINGS[name], "info": words or None, "value": value}
    least, most, whole = told.get("minimum"), told.get("maximum"), told["type"] == "integer"
    if told.get("enum"):
        return gradio.Dropdown(told["enum"], **shared)
    if not whole and told["type"] != "number":
        return gradio.Textbox(lines=2, **shared)
    if name in _NONE or least is None or most is None:
        return gradio.Number(precision=0 if whole else None, **shared)
    return gradio.Slider(least, most, step=1 if whole else 0.1, **shared)


def _make(client: Client, settings: tuple[str, ...], *given: Any) -> Iterator[tuple[Any, ...]]:
    """What the page shows while a video is made: status, the button to stop it, the video, its id."""
    count = len(given) - len(settings)
    *seen, sound, prompt = given[:count]
    asked = dict(zip(settings, given[count:]))
    fields = {name: value for name, value in asked.items() if name not in _NONE or value != _NONE[name][0]}
    image = next((each for each in seen if each), None)
    if image is None:
        raise gradio.Error("Give a picture.", print_exception=False)
    try:
        yield "Sending ...", gradio.Button(visible=False), None, None
        video = client.create(image, sound, prompt=prompt, **fields)
        for notice in video.notices:
            gradio.Info(notice)
        for event in client.events(video.id):
            if event.kind == "progress":
                yield _line(event), gradio.Button(visible=True), None, video.id
            elif event.kind == "notice":
                gradio.Info(event.data["message"])
        video = client.get(video.id)
        if video.status == "failed":
            raise VideoFailed(video)
        with tempfile.TemporaryDirectory(prefix="talk_") as folder:  # Gradio keeps a copy of its own
            file = client.download(video.id, Path(folder) / "talk.mp4")
            yield _done(video), gradio.Button(visible=False), str(file), None
    except (ApiError, ConnectionError, VideoFailed) as error:
        yield f"**{_said(error)}**", gradio.Button(visible=False), None, None


def _stop(client: Client, id: str | None) -> None:
    if id is not None:
        _asking(client.cancel, id)


def _speak(client: Client, text: str, voice: str | None) -> str:
    with tempfile.NamedTemporaryFile(prefix="talk_", suffix=".wav", delete=False) as file:
        file.write(_asking(client.speak, text, voice))
    return file.name


def _improve(client: Client, prompt: str, *seen: Any) -> str:
    return _asking(client.enhance, prompt, next((each for each in seen if each), None))


def _asking(call: Any, *given: Any) -> Any:
    """The call's answer; what goes wrong is shown on the page."""
    try:
        return call(*given)
    except (ApiError, ConnectionError) as error:
        raise gradio.Error(_said(error), print_exception=False) from None


def _said(error: Exception) -> str:
    if isinstance(error, VideoFailed):
        return str((error.video.error or {}).get("message") or "The video failed.")
    return error.message if isinstance(error, ApiError) else str(error)


def _line(event: Event) -> str:
    data = event.data
    if data["status"] == "queued":
        return f"Waiting, number {data['queue_position']}"
    clip = f", clip {data['clip']} of {data['clips']}" if data["clip"] else ""
    left = f", {data['eta_seconds']} s left" if data["eta_seconds"] else ""
    return f"{(data['phase'] or 'starting').capitalize()}{clip}: {data['progress']} %{left}"


def _done(video: Video) -> str:
    return f"{video.seconds} s of {video.size}, seed {video.seed}"
