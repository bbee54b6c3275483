"""Windows of video to prepared samples, by the four frozen models: what a clip of the window would be told, and what it
should show.

Shapes: B windows of T frames of H W pixels, h w latent grid, S speakers, Q these and the background, n samples of
sound, A audio width, D text width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8, UInt32

from talkverse_jax.core.errors import UserError
from talkverse_jax.data.people import Speaker
from talkverse_jax.data.prepared import PreparedBatch
from talkverse_jax.data.raw import RawSample
from talkverse_jax.families.multitalk.components import COMPONENTS
from talkverse_jax.families.multitalk.config import Recipe
from talkverse_jax.families.multitalk.settings import WindowSettings
from talkverse_jax.media.fit import to_unit
from talkverse_jax.media.loudness import gain, loudness
from talkverse_jax.models.clip.model import ClipVision
from talkverse_jax.models.vae.model import WanVAE
from talkverse_jax.pipeline.encoders import SAMPLE_RATE, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.pipeline.sample_encoding import CaptionEncoder, encode_latents, local_mesh, on_cpu, precision
from talkverse_jax.pipeline.speech import SpeechEncoder, is_normalised
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.weights import store

_FIRST = 17  # of what is drawn of a sample's id


class Shown(NamedTuple):
    """What clips show of themselves before they are made.

    Attributes:
      video: the windows, but that frames which are shown may be others.
      frames: how many of the first frames are shown.
      picture: the last of them, which CLIP sees.
    """

    video: UInt8[np.ndarray, "B T H W 3"]
    frames: Int[np.ndarray, " B"]
    picture: UInt8[np.ndarray, "B H W 3"]


class MultiTalkEncoder:
    """VAE, CLIP, wav2vec2 and UMT5, on the devices of this process alone: each process encodes what it has read.

    Args:
      text_len: rows of the text, D wide.
      recipe: of the weights.
      settings: what a window is taken for.
      dtype: of the latents and hidden states that are made.
      text_on_cpu: the text encoder lies there.
    """

    def __init__(
        self,
        vae: WanVAE,
        clip: ClipVision,
        audio: SpeechEncoder,
        text: TextEncoder,
        *,
        text_len: int,
        recipe: Recipe,
        settings: WindowSettings,
        dtype: str = "bfloat16",
        text_on_cpu: bool = False,
    ):
        self.dtype = jnp.dtype(dtype)
        self.vae, self.clip, self.audio = vae, clip, audio
        self.captions = CaptionEncoder(text, text_len, self.dtype, on_cpu=text_on_cpu)
        self.recipe: Recipe = recipe
        self.settings = settings
        self._null_text = self.captions([""])[0]

    @classmethod
    def load(
        cls, weights_dir: str, settings: WindowSettings, *, dtype: str = "bfloat16", text_on_cpu: bool = False
    ) -> "MultiTalkEncoder":
        """The models of a folder of converted weights: all in float32 but UMT5, which is in `dtype`.

        Raises:
          UserError: one of them is missing or damaged.
        """
        layouts = component_layouts(local_mesh(), COMPONENTS.values())
        config = store.load_config(weights_dir, COMPONENTS["dit"])

        def load(name: str, dtype: str, layout: Layout) -> Any:
            return store.load_module(weights_dir, COMPONENTS[name], dtype=dtype, layout=layout)

        with on_cpu(text_on_cpu):
            text = load("text", dtype, Layout() if text_on_cpu else layouts["text"])
        normalised = is_normalised(store.folder_of(weights_dir, "audio"))
        return cls(
            load("vae", "float32", layouts["vae"]),
            load("clip", "float32", layouts["clip"]),
            SpeechEncoder(load("audio", "float32", layouts["audio"]), normalised),
            TextEncoder(text, load_tokenizer(store.folder_of(weights_dir, "text") / "tokenizer")),
            text_len=config.trunk.text_len,
            recipe=config.recipe,
            settings=settings,
            dtype=dtype,
            text_on_cpu=text_on_cpu,
        )

    @property
    def constants(self) -> Mapping[str, Float[np.ndarray, "text_len D"]]:
        """The hidden states of the empty caption."""
        return {"null_text": self._null_text}

    def encode(self, batch: RawSample) -> PreparedBatch:
        """A batch of windows of one size, encoded; all arrays are in host memory.

        A slot without a sample (weight 0) holds finite values that mean nothing.

        Raises:
          UserError: a sample has more people than the settings let in, or so little sound that nobody can tell how loud
            it is.
        """
        ids, everybody = np.asarray(batch.id, np.uint32), list[Sequence[Speaker]](batch.people)  # pyright: ignore[reportArgumentType]  # of each sample
        first = first_clips(ids, self.settings.first_clip_prob)
        shown = shown_frames(batch.video, batch.reference, first, self.settings.motion_frames(self.recipe), self.recipe)
        with jax.default_matmul_precision(precision(self.dtype)):
            latents = encode_latents(self.vae, batch.video)
            known = encode_latents(self.vae, shown.video, shown.frames)
            image = self.clip(self.clip.layout.put(to_unit(shown.picture)))
            audio = np.stack([self._heard(*parts) for parts in zip(batch.waveform, everybody, batch.name)])
        kept = {"latents": latents, "known": known, "image": image, "audio": audio}
        return PreparedBatch(
            arrays={
                **{name: np.asarray(array).astype(self.dtype) for name, array in kept.items()},
                "first": first[:, None].astype(np.uint8),
                "alone": np.array([[len(people) < 2] for people in everybody], np.uint8),
                "places": np.stack([self._places(people, latents.shape[2:4]) for people in everybody]),
                "text": self.captions(batch.caption),
                "face": batch.face,
                "body": batch.body,
            },
            ids=ids,
            names=tuple(batch.name),
            weights=np.asarray(batch.weight, np.float32),
        )

    def _heard(
        self, waveform: Float32[np.ndarray, " n"], people: Sequence[Speaker], name: str
    ) -> Float[np.ndarray, "S rows layers A"]:
        """What each speaker says; zeros of those who are not there."""
        if len(people) > self.settings.speakers:
            raise UserError(
                f"{name}: {len(people)} people; give --speakers {len(people)} or more, or a sound for fewer",
                field="speakers",
            )
        voices = [each.waveform * gain(each.lufs) for each in people]
        voices = voices or [waveform * gain(loudness([waveform], SAMPLE_RATE, name))]
        rows = [self.audio.encode(np.asarray(voice, np.float32)) for voice in voices]
        return np.stack([*rows, *[np.zeros_like(rows[0])] * (self.settings.speakers - len(rows))])

    def _places(self, people: Sequence[Speaker], grid: Sequence[int]) -> UInt8[np.ndarray, "Q h w"]:
        """Where the speakers are, and, last, where nobody is; all of it is the first one's who is alone."""
        places = np.zeros((self.settings.speakers + 1, *grid), np.uint8)
        for number, each in enumerate(people):
            places[number] = each.place
        if len(people) < 2:
            places[0] = 1
        places[-1] = 1 - places[:-1].max(axis=0)
        return places


def first_clips(ids: UInt32[np.ndarray, "B 2"], share: float) -> Bool[np.ndarray, " B"]:
    """Which samples are first clips: a function of their ids."""
    return np.array([np.random.default_rng([*map(int, each), _FIRST]).random() < share for each in ids])


def shown_frames(
    video: UInt8[np.ndarray, "B T H W 3"],
    reference: UInt8[np.ndarray, "B H W 3"],
    first: Bool[np.ndarray, " B"],
    motion_frames: int,
    recipe: Recipe,
) -> Shown:
    """What the clips of windows would show: a first clip its own first frame; a later one the frames that it takes over
    or, of InfiniteTalk, a picture from elsewhere in the video."""
    if recipe == "infinitetalk":
        picture = np.where(first[:, None, None, None], video[:, 0], reference)
        video = np.concatenate([picture[:, None], video[:, 1:]], axis=1)
        return Shown(video, np.ones(len(video), np.int32), picture)
    frames = np.where(first, 1, motion_frames).astype(np.int32)
    return Shown(video, frames, video[np.arange(len(video)), frames - 1])
