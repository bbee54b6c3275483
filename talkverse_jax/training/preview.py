"""A short video of one fixed sample, made by the model as it is now: what `sample.py` would make of it."""

from pathlib import Path

import jax
import numpy as np
from flax import nnx
from jaxtyping import UInt8

from talkverse_jax.core import tree
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.families.talkverse.clips import generate_clips
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.families.talkverse.inputs import read_inputs
from talkverse_jax.media.frame_rate import FPS
from talkverse_jax.media.video_writer import VideoWriter
from talkverse_jax.pipeline.placement import component_layouts
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.run.worker import encode_conditions
from talkverse_jax.sharding.distributed import is_main
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.rules import PREVIEW
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.state import Network, Settings, abstract, divide
from talkverse_jax.weights import store

_PICTURES = 4  # of the video, side by side


class Preview:
    """The sample, encoded, and the VAE; the encoders are no longer in memory.

    Raises:
      UserError: its picture or its sound cannot be used.
    """

    def __init__(
        self, options: TrainOptions, settings: Settings, configs: ModelConfigs, mesh: jax.sharding.Mesh | None
    ):
        self._options = SampleOptions(
            weights=options.weights,
            image=options.preview_image,
            audio=options.preview_audio,
            prompt=options.preview_prompt,
            size_bucket=options.size_bucket,
            infer_frames=options.num_frames,
            sample_steps=options.preview_sample_steps,
            audio_alignment=options.audio_alignment,
            base_seed=options.seed,
            dtype=options.dtype,
            t5_cpu=options.t5_cpu,
        )
        self._inputs = read_inputs(self._options)
        layouts = component_layouts(mesh, COMPONENTS.values())
        self._stopwatch = Stopwatch("loading", "encoding", "denoising", "decoding")
        self._conditions, _ = encode_conditions(self._options, configs, layouts, self._inputs.sound, self._stopwatch)
        self._vae = store.load_module(
            options.weights, COMPONENTS["vae"], dtype=self._options.vae_dtype, layout=layouts["vae"]
        )
        # The same parameters, their work split as sampling does it.
        layout = Layout(mesh, PREVIEW)
        model = abstract(configs.dit, settings, layout)
        self._graphdef: nnx.GraphDef = divide(model, settings.strategy, layout)[0].graphdef

    def make(self, params: tree.Flat, network: Network, path: Path) -> UInt8[np.ndarray, "H W 3"] | None:
        """Write the video; a few of its pictures side by side, in the process that has them.

        Args:
          params: the trained parameters, by key.
          network: the others.
        """
        subject = self._conditions.subject(self._inputs, self._options.base_seed, clips=1)
        settings = self._options.clip_settings()
        model = tree.join(self._graphdef, params, network.frozen)
        [clip] = generate_clips(model, self._vae, [subject], settings=settings, stopwatch=self._stopwatch)
        if not is_main():
            return None
        frames = np.round(np.nan_to_num(clip.frames) * 127.5 + 127.5).astype(np.uint8)
        height, width = frames.shape[1:3]
        sound = dict(sound=self._inputs.sound.native(), rate=self._inputs.sound.rate)
        with VideoWriter(path, width=width, height=height, fps=FPS, **sound) as writer:
            writer.write(frames)
        chosen = np.linspace(0, len(frames) - 1, _PICTURES).astype(int)
        return np.concatenate(list(frames[chosen]), axis=1)
