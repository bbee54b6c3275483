"""A client of the server (`talkverse-jax serve`): makes talking videos on another machine, or in another process.

It needs httpx and nothing else, so it also runs where the models could not: in a notebook, in ComfyUI, on Windows.

    from talkverse_jax.client import Client

    with Client("http://127.0.0.1:8765") as client:
        video = client.create("face.png", "speech.wav", prompt="A woman talks to the camera.")
        client.wait(video.id)
        client.download(video.id, "talk.mp4")
"""

from talkverse_jax.client.client import Client as Client
from talkverse_jax.client.errors import ApiError as ApiError
from talkverse_jax.client.errors import VideoFailed as VideoFailed
from talkverse_jax.client.records import Event as Event
from talkverse_jax.client.records import Page as Page
from talkverse_jax.client.records import Video as Video

__all__ = ["ApiError", "Client", "Event", "Page", "Video", "VideoFailed"]
