"""Short videos of fixed samples, made by the network as it is now: what a user would get of it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import UInt8
from PIL import Image

from talkverse_jax.core import tree
from talkverse_jax.core.paths import replacing
from talkverse_jax.pipeline.events import Events
from talkverse_jax.pipeline.family import Family
from talkverse_jax.pipeline.machine import Machine, Weights
from talkverse_jax.pipeline.training import PreviewRequest
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.sharding.rules import PREVIEW
from talkverse_jax.training.network import Network, NetworkSettings, abstract, divide, kept
from talkverse_jax.training.options import TrainOptions
from talkverse_jax.training.preview_list import Wanted, read_previews

MakeVideo = Callable[..., Path]  # (pipeline, job, events, encoded=) -> the file, as `run.worker.make_video`

_PICTURES = 4  # of the video, side by side


class Preview:
    """The samples, encoded, and the family's pipeline, whose encoders are no longer in memory.

    Of a distillation the student makes them as it will be sampled, and the teacher with guidance, once.

    Attributes:
      names: of the videos; the name of a single one is empty.

    Raises:
      UserError: a picture or a sound cannot be used, or the file of previews.
    """

    def __init__(
        self,
        options: TrainOptions,
        family: Family,
        settings: NetworkSettings,
        configs: Any,
        mesh: Mesh | None,
        make_video: MakeVideo,
    ):
        training, asked = family.training, options.preview
        request = PreviewRequest(
            image=asked.preview_image or "",
            audio=asked.preview_audio or "",
            prompt=asked.preview_prompt,
            size_bucket=options.videos.size_bucket,
            frames=options.distil.clip_frames or options.videos.num_frames,
            steps=asked.preview_sample_steps,
            seed=options.videos.seed,
            decoder=asked.preview_decoder,
        )
        how = options.machine
        machine = Machine(dtype=how.dtype, attention=how.attention, t5_cpu=options.videos.t5_cpu)
        self._make_video, self._component = make_video, training.component
        self._pipeline = family.load_pipeline(Weights(options.input.weights), machine, mesh=mesh)
        of_family = lambda request: training.preview(request, options.settings)  # noqa: E731

        def encoded(request: PreviewRequest) -> dict[str, tuple[Any, Any]]:
            wanted = [Wanted("", of_family(request))]
            if asked.previews:
                wanted = read_previews(asked.previews, family.name, request, of_family)
            jobs = {each.name: self._pipeline.job(**each.values) for each in wanted}
            return {name: (job, self._pipeline.encode(job, Events())) for name, job in jobs.items()}

        self._teacher, self._taught = {}, {}
        if options.distil.distils:
            self._teacher = encoded(request)
            request = request._replace(steps=options.distil.student_steps, student_shift=options.distil.student_shift)
        self._own = encoded(request)
        self.names = tuple(self._own)
        # The same parameters, their work split as sampling does it.
        layout = Layout(mesh, PREVIEW)
        component = family.components[training.component]
        model = abstract(component, getattr(configs, component.name), settings, layout)
        self._graphdef: nnx.GraphDef = divide(model, settings.strategy, layout)[0].graphdef
        plain = abstract(component, getattr(configs, component.name), settings, layout, adapters=False)
        self._whole: nnx.GraphDef = kept(plain, layout).graphdef

    def make(
        self, name: str, params: tree.Flat, network: Network, path: Path, teacher: Network | None = None
    ) -> UInt8[np.ndarray, "H W 3"] | None:
        """Write a video; a few of its pictures side by side, in the process that has them, below the teacher's.

        Args:
          name: which one.
          params: the trained parameters, by key.
          network: the others.
          teacher: whose video is written too, `teacher-NAME.mp4`, and with it a picture of both, PATH with .png.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        if teacher and name not in self._taught:
            target = path.with_name("-".join(filter(None, ["teacher", name])) + ".mp4")
            self._taught[name] = self._row(self._teacher[name], tree.join(self._whole, {}, teacher.frozen), target)
        row = self._row(self._own[name], tree.join(self._graphdef, params, network.frozen), path)
        if row is None or not teacher:
            return row
        both = np.concatenate([self._taught[name], row])
        with replacing(path.with_suffix(".png")) as partial:
            Image.fromarray(both).save(partial, format="png")
        return both

    def _row(self, made_of: tuple[Any, Any], model: nnx.Module, path: Path) -> UInt8[np.ndarray, "H W 3"] | None:
        job, encoded = made_of
        self._pipeline.replace(**{self._component: model})
        shown = _Shown()
        self._make_video(self._pipeline, dataclasses.replace(job, output=str(path)), shown, encoded=encoded)
        if shown.frames is None:
            return None
        chosen = np.linspace(0, len(shown.frames) - 1, _PICTURES).astype(int)
        return np.concatenate(list(shown.frames[chosen]), axis=1)


class _Shown(Events):
    """Keeps the frames of the clip."""

    def __init__(self):
        self.frames: UInt8[np.ndarray, "n H W 3"] | None = None

    def clip(self, index: int, count: int | None, preview: Callable[[], Any]) -> None:
        self.frames = preview()
