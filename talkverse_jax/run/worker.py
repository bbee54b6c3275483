"""From files to a video file: what `sample.py` runs."""

import dataclasses
import json
import sys
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

import talkverse_jax
from talkverse_jax.core.compile_cache import Programs, count_programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import write_json
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.families.talkverse.alignment import FPS, FRAMES_LOST, clip_audio, frames_in_sound
from talkverse_jax.families.talkverse.clips import Clip, Subject, generate_clips, seeded_noise
from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.families.talkverse.inputs import Inputs, read_inputs
from talkverse_jax.families.talkverse.model import TalkVerse
from talkverse_jax.media.audio import SoundFile
from talkverse_jax.media.buckets import to_unit
from talkverse_jax.media.video_writer import VideoWriter, check_output
from talkverse_jax.models.vae.model import WanVAE22
from talkverse_jax.ops.attention import Attention
from talkverse_jax.pipeline.encoders import AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipeline.long_sound import WindowedFeatures, sound_features
from talkverse_jax.pipeline.placement import Layouts, choose_mesh, component_layouts
from talkverse_jax.pipeline.residency import host_device, to_host
from talkverse_jax.run.resume import Unfinished, is_finished, load, made_from, save, state_file
from talkverse_jax.run.sample_options import SampleOptions
from talkverse_jax.sharding.distributed import check_same, from_main, is_main
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.weights import lora, store


@dataclasses.dataclass(frozen=True)
class Conditions:
    """A video's text and sound as the transformer takes them."""

    text: Float[np.ndarray, "1 text_len D"]
    negative_text: Float[np.ndarray, "1 text_len D"]
    audio: Float[np.ndarray, "T layers A"] | WindowedFeatures

    def subject(self, inputs: Inputs, seed: int, clips: int) -> Subject:
        """The video that these conditions and files make."""
        return Subject(
            to_unit(inputs.picture),
            self.text,
            self.negative_text,
            partial(clip_audio, self.audio),
            clips,
            seeded_noise(seed),
            inputs.dubbing(seed),
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long the video is.

    Attributes:
      clips: of so many
      clip_frames: frames each, but for the first, which shows
      lost: fewer.
      frames: that the clips are cut to, and of which the first
      trim: are left out.
    """

    clips: int
    clip_frames: int
    lost: int
    frames: int
    trim: int

    @property
    def shown(self) -> int:
        """Frames of the video."""
        return self.frames - self.trim

    def __str__(self) -> str:
        seconds = self.shown / FPS
        return f"{self.shown} frames ({seconds:.2f} s) in {self.clips} clip{'s' * (self.clips > 1)}"

    def shown_of(self, clip: int) -> slice:
        """Which frames of a clip the video shows."""
        before = max(0, clip * self.clip_frames - self.lost)
        return slice(max(0, self.trim - before), max(0, self.frames - before))

    @classmethod
    def make(cls, options: SampleOptions, seconds: float, rows: int) -> "Plan":
        """The plan for a sound of `seconds`, of which the audio encoder made `rows` rows.

        Raises:
          UserError: nothing is left after the trim.
        """
        wanted, history = frames_in_sound(seconds), options.init_first_frame
        rows = wanted if options.audio_alignment == "exact" else rows
        clips = options.clips(rows)
        if options.num_clip and options.num_clip > clips:
            say(f"--num_clip {options.num_clip}: the sound ends in clip {clips}; {clips} are made")
        lost = 0 if history else FRAMES_LOST
        frames = min(wanted, clips * options.infer_frames - lost)
        if options.head_trim_frames >= frames:
            raise UserError(f"--head_trim_frames {options.head_trim_frames}: the video has {frames} frames; trim fewer")
        return cls(clips, options.infer_frames, lost, frames, options.head_trim_frames)


def sample(options: SampleOptions) -> Path:
    """Make one video and, beside it, a JSON file that says how.

    Raises:
      UserError: an input, a flag or the weights folder cannot be used. What was at `--output` before is then
        still there.
    """
    any_seed = options.base_seed == -1
    options = _same_everywhere(options.checked())
    output = check_output(options.output) if is_main() else Path(options.output)
    record_path = _check_record(output.with_suffix(".json"))
    inputs = read_inputs(options)
    configs, layouts = check_models(options)
    source = made_from(options) if is_main() else {}
    unfinished = load(output, source, any_seed) if options.resume else None
    if unfinished is not None:
        options = dataclasses.replace(options, base_seed=unfinished.seed)
        source |= {"base_seed": unfinished.seed}
    elif options.resume and is_finished(output, record_path, source, any_seed):
        say(f"--resume: {output} is finished")
        return output
    height, width = inputs.size
    for notice in inputs.sound.notices:
        say(notice)
    stopwatch = Stopwatch("loading", "encoding", "denoising", "decoding", "writing")
    with jax.default_matmul_precision(options.matmul_precision), count_programs() as programs:
        conditions, notices = encode_conditions(options, configs, layouts, inputs.sound, stopwatch)
        plan = Plan.make(options, inputs.sound.duration, len(conditions.audio))
        say(f"{width}x{height}, {plan}, seed {options.base_seed}")
        if options.resume:
            where = f"goes on at clip {unfinished.past.clip + 1}" if unfinished else "nothing to go on from"
            say(f"--resume: {where}")
        with stopwatch.phase("loading"):
            dit, vae = load_models(options, layouts)
        written = unfinished.written if unfinished else ()
        with open_writer(output, inputs, options, plan, written) if is_main() else nullcontext() as writer:
            subject = conditions.subject(inputs, options.base_seed, plan.clips)
            _write_clips(writer, options, source, plan, dit, vae, subject, unfinished, stopwatch)
    if not is_main():
        return output
    state_file(output).unlink(missing_ok=True)
    record = describe(options, source, plan, inputs, dit, stopwatch, programs, notices)
    write_json(record_path, record)
    spent = ", ".join(f"{name.replace('_', ' ')} {t:.1f} s" for name, t in record["seconds"].items())
    say(f"{output} ({spent}; {programs})")
    return output


def check_models(options: SampleOptions, videos: int = 1) -> tuple[ModelConfigs, Layouts]:
    """The models' sizes and where they lie, before any is loaded.

    Args:
      videos: that are denoised as one batch.

    Raises:
      UserError: weights or `--lora_ckpt` cannot be used, or the mesh or the attention kernel cannot be had.
    """
    configs = ModelConfigs.from_weights(options.weights)
    if trained := _trained_file(options):
        store.check_trained(options.weights, COMPONENTS["dit"], trained)
    branches = 2 if options.clip_settings().guided else 1
    trunk = configs.dit.trunk
    layouts = component_layouts(choose_mesh(options.mesh, trunk.num_heads, branches * videos))
    Attention(layouts["dit"], options.attention).check(jnp.dtype(options.dtype), trunk.head_dim)
    return configs, layouts


def open_writer(
    output: Path, inputs: Inputs, options: SampleOptions, plan: Plan, written: tuple[int, ...] = ()
) -> VideoWriter:
    """The writer of a video.

    Args:
      written: frames of clips that an earlier run has written.
    """
    height, width = inputs.size
    if not written:
        state_file(output).unlink(missing_ok=True)  # of an older run: its partial file is about to go
    return VideoWriter(
        output,
        width=width,
        height=height,
        sound=inputs.sound.native(),
        rate=inputs.sound.rate,
        audio_start=plan.trim / FPS,
        fps=FPS,
        metadata={"title": options.prompt[:200], "comment": f"talkverse_jax seed {options.base_seed}"},
        written=written,
    )


def describe(
    options: SampleOptions,
    source: dict[str, Any],
    plan: Plan,
    inputs: Inputs,
    dit: TalkVerse,
    stopwatch: Stopwatch,
    programs: Programs,
    notices: list[str],
) -> dict[str, Any]:
    """The record of a video: with what it was made, and where the time went.

    Args:
      source: see `made_from`.
    """
    mesh = dit.layout.mesh
    return {
        "talkverse_jax": talkverse_jax.__version__,
        "jax": jax.__version__,
        "devices": [d.device_kind for d in (mesh.devices.flat if mesh else jax.local_devices()[:1])],
        "mesh": dict(mesh.shape) if mesh else None,
        "settings": dataclasses.asdict(options),
        "made_from": source,
        "size": list(inputs.size),
        "frames": plan.shown,
        "clips": plan.clips,
        "fps": FPS,
        "notices": [*inputs.sound.notices, *notices],
        "seconds": stopwatch.rounded(),
        "programs": {"compiled": programs.compiled, "from_cache": programs.cached},
        "weights": store.read_manifest(options.weights),
    }


def _check_record(path: Path) -> Path:
    """Make sure that the JSON beside the video, where there is one, is a record of ours.

    Raises:
      UserError: it is something else, which is left alone.
    """
    if path.exists():
        try:
            ours = "talkverse_jax" in json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise UserError(f"{path}: stands where the video's record goes and is none; give another --output")
    return path


def _same_everywhere(options: SampleOptions) -> SampleOptions:
    """The options with process 0's seed.

    Raises:
      UserError: this process was given others.
    """
    options = dataclasses.replace(options, base_seed=int(from_main("seed", str(options.base_seed))))
    check_same("options", json.dumps(dataclasses.asdict(options) | {"process_id": None}))
    return options


def encode_conditions(
    options: SampleOptions, configs: ModelConfigs, layouts: Layouts, sound: SoundFile, stopwatch: Stopwatch
) -> tuple[Conditions, list[str]]:
    """Run the text and audio encoders, one after the other, and drop each, but for that of a sound that is encoded
    as it is needed; notices for the user come along."""
    with stopwatch.phase("loading"):
        text_encoder = load_text_encoder(options, layouts)
    with stopwatch.phase("encoding"):
        text, negative_text, notices = encode_prompts(text_encoder, options, configs)
    del text_encoder
    with stopwatch.phase("loading"):
        audio_encoder = load_audio_encoder(options, layouts)
    with stopwatch.phase("encoding"):
        audio = sound_features(audio_encoder, sound, options.audio_window)
    return Conditions(text, negative_text, audio), notices


def load_text_encoder(options: SampleOptions, layouts: Layouts) -> TextEncoder:
    """UMT5 and its tokenizer, on the CPU where the options say so."""
    with _text_device(options):
        layout = Layout() if options.t5_cpu else layouts["text"]
        model = store.load_module(options.weights, COMPONENTS["text"], dtype=options.dtype, layout=layout)
        return TextEncoder(model, load_tokenizer(store.folder_of(options.weights, "text") / "tokenizer"))


def _text_device(options: SampleOptions):
    return jax.default_device(host_device()) if options.t5_cpu else nullcontext()


def encode_prompts(
    encoder: TextEncoder, options: SampleOptions, configs: ModelConfigs
) -> tuple[Float[np.ndarray, "1 text_len D"], Float[np.ndarray, "1 text_len D"], list[str]]:
    """The states of both prompts, and lines for the user."""
    prompts = {"--prompt": options.prompt}
    prompts["--negative_prompt"] = options.negative_prompt if options.clip_settings().guided else ""  # is not used
    with _text_device(options):
        encoded = encoder.encode(list(prompts.values()), configs.dit.trunk.text_len)
        text = np.asarray(encoded.states)
    notices = [
        f"{flag}: {tokens} tokens, cut to {kept}"
        for flag, tokens, kept in zip(prompts, encoded.tokens, encoded.lengths)
        if tokens > kept
    ]
    for notice in notices:
        say(notice)
    return text[:1], text[1:], notices


def load_audio_encoder(options: SampleOptions, layouts: Layouts) -> AudioEncoder:
    """wav2vec2."""
    return AudioEncoder(
        store.load_module(options.weights, COMPONENTS["audio"], dtype="float32", layout=layouts["audio"])
    )


def load_models(options: SampleOptions, layouts: Layouts) -> tuple[TalkVerse, WanVAE22]:
    """The transformer, with `--lora_ckpt` laid over it, and the VAE."""
    dit = store.load_module(
        options.weights,
        COMPONENTS["dit"],
        dtype=options.dtype,
        layout=layouts["dit"],
        trained=_trained_file(options),
        kernel=options.attention,
    )
    if options.offload_model:
        dit = to_host(dit)
    vae = store.load_module(options.weights, COMPONENTS["vae"], dtype=options.vae_dtype, layout=layouts["vae"])
    return dit, vae


def _trained_file(options: SampleOptions) -> lora.TrainedFile | None:
    if options.lora_ckpt is None:
        return None
    return lora.TrainedFile(options.lora_ckpt, options.lora_rank, options.lora_alpha)


def _write_clips(
    writer: VideoWriter | None,
    options: SampleOptions,
    source: dict[str, Any],
    plan: Plan,
    dit: TalkVerse,
    vae: WanVAE22,
    subject: Subject,
    unfinished: Unfinished | None,
    stopwatch: Stopwatch,
) -> None:
    """Make the clips and write each as it is finished, with what a later run needs to go on; without a writer
    (another process has it) only make them.

    Raises:
      UserError: a clip is not finite; those before it stay in the partial file.
    """
    output = Path(options.output)
    past = unfinished.past if unfinished else None
    with _progress(plan.clips, options.sample_steps, past.clip if past else 0) as (count_step, on_clip):

        def on_step() -> None:
            stopwatch.mark("to_first_step")
            count_step()

        for clip in generate_clips(
            dit,
            vae,
            [subject],
            settings=options.clip_settings(),
            stopwatch=stopwatch,
            on_step=on_step,
            keep_past=True,
            past=past,
        ):
            if writer is None:
                continue
            with stopwatch.phase("writing"):
                write_clip(writer, clip, plan, options)
                if clip.past:
                    save(output, source, clip.past, writer.clips)
            del clip  # nothing of it is kept while the next one is made
            on_clip()


def write_clip(writer: VideoWriter, clip: Clip, plan: Plan, options: SampleOptions) -> None:
    """Append a clip, trimmed and cut to the plan.

    Raises:
      UserError: it is not finite.
    """
    if not (np.isfinite(clip.latents).all() and np.isfinite(clip.frames).all()):
        raise UserError(_not_finite(clip.index, options, writer))
    frames = clip.frames[plan.shown_of(clip.index)]
    writer.write(np.round(frames * 127.5 + 127.5).astype(np.uint8))


def _not_finite(index: int, options: SampleOptions, writer: VideoWriter) -> str:
    wide = options.dtype == options.vae_dtype == "float32"
    narrow = "" if wide else "try --dtype float32 --vae_dtype float32; if that is no help, "
    kept = f" (the {writer.frames} frames before it are in {writer.partial.name})" if writer.frames else ""
    return (
        f"clip {index + 1}: came out as values that are no numbers{kept}; {narrow}the weights are damaged: "
        f"delete {options.weights} and convert them again"
    )


@contextmanager
def _progress(clips: int, steps: int, done: int):
    """Two bars, clips, of which some may be done, and the steps of the clip in work, each with the time left."""
    bar = partial(tqdm, file=sys.stderr, dynamic_ncols=True, disable=not is_main())
    with (
        bar(total=clips, initial=done, desc="clips", unit="clip", position=0) as clip_bar,
        bar(total=steps, desc="steps", unit="step", position=1, leave=False) as step_bar,
    ):

        def on_clip() -> None:
            clip_bar.update()
            if clip_bar.n < clips:
                step_bar.reset()

        yield step_bar.update, on_clip


def say(line: str) -> None:
    """Print a line above the bars, in the process that speaks."""
    if is_main():
        tqdm.write(line, file=sys.stderr)
