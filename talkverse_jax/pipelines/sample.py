"""From files to a video file: what `sample.py` runs."""

import dataclasses
import json
import sys
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

import talkverse_jax
from talkverse_jax.core.compile_cache import count_programs
from talkverse_jax.core.errors import UserError
from talkverse_jax.core.paths import write_json
from talkverse_jax.core.stopwatch import Stopwatch
from talkverse_jax.data.audio import Sound, read_audio
from talkverse_jax.data.buckets import choose, fit, to_unit
from talkverse_jax.data.image import read_image
from talkverse_jax.data.video_writer import VideoWriter, check_output
from talkverse_jax.models.talkverse.model import TalkVerse
from talkverse_jax.models.vae.model import WanVAE22
from talkverse_jax.ops.attention import Attention
from talkverse_jax.pipelines.alignment import FPS, FRAMES_LOST, clips_needed, frames_in_sound
from talkverse_jax.pipelines.components import COMPONENTS, ModelConfigs
from talkverse_jax.pipelines.encoders import SAMPLE_RATE, AudioEncoder, TextEncoder, load_tokenizer
from talkverse_jax.pipelines.long_video import generate_clips, seeded_noise
from talkverse_jax.pipelines.placement import Layouts, choose_mesh, component_layouts
from talkverse_jax.pipelines.residency import host_device, to_host
from talkverse_jax.pipelines.sample_options import SampleOptions
from talkverse_jax.sharding.distributed import check_same, from_main, is_main
from talkverse_jax.sharding.layout import Layout
from talkverse_jax.weights import lora, store


@dataclasses.dataclass(frozen=True)
class Conditions:
    """A video's text and sound as the transformer takes them; the encoders are no longer in memory."""

    text: Float[np.ndarray, "1 text_len D"]
    negative_text: Float[np.ndarray, "1 text_len D"]
    audio: Float[np.ndarray, "T layers A"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long the video is: `frames` from `clips` clips, of which the first `trim` frames are left out."""

    clips: int
    frames: int
    trim: int

    @classmethod
    def make(cls, options: SampleOptions, seconds: float, rows: int) -> "Plan":
        """The plan for a sound of `seconds`, of which the audio encoder made `rows` rows.

        Raises:
          UserError: nothing is left after the trim.
        """
        wanted, history = frames_in_sound(seconds), options.init_first_frame
        rows = wanted if options.audio_alignment == "exact" else rows
        clips = clips_needed(rows, options.infer_frames, options.audio_alignment, history)
        if options.num_clip and options.num_clip > clips:
            _say(f"--num_clip {options.num_clip}: the sound ends in clip {clips}; {clips} are made")
        clips = min(clips, options.num_clip or clips)
        frames = min(wanted, clips * options.infer_frames - (0 if history else FRAMES_LOST))
        if options.head_trim_frames >= frames:
            raise UserError(
                f"--head_trim_frames {options.head_trim_frames}: the video has {frames} frames; trim fewer"
            )
        return cls(clips, frames, options.head_trim_frames)


def sample(options: SampleOptions) -> Path:
    """Make one video and, beside it, a JSON file that says how.

    Raises:
      UserError: an input, a flag or the weights folder cannot be used. What was at `--output` before is then
        still there.
    """
    options = _same_everywhere(options.checked())
    output = check_output(options.output) if is_main() else Path(options.output)
    record_path = _check_record(output.with_suffix(".json"))
    image, sound = read_image(options.image), read_audio(options.audio, SAMPLE_RATE)
    height, width = choose(options.size_bucket, *image.shape[:2])
    configs = ModelConfigs.from_weights(options.weights)
    if trained := _trained_file(options):
        store.check_trained(options.weights, COMPONENTS["dit"], trained)
    for notice in sound.notices:
        _say(notice)
    branches = 2 if options.clip_settings().guided else 1
    trunk = configs.dit.trunk
    layouts = component_layouts(choose_mesh(options.mesh, trunk.num_heads, branches))
    Attention(layouts["dit"], options.attention).check(jnp.dtype(options.dtype), trunk.head_dim)
    stopwatch = Stopwatch("loading", "encoding", "denoising", "decoding", "writing")
    with jax.default_matmul_precision(options.matmul_precision), count_programs() as programs:
        conditions, notices = encode_conditions(options, configs, layouts, sound, stopwatch)
        plan = Plan.make(options, sound.duration, len(conditions.audio))
        _say(
            f"{width}x{height}, {plan.frames - plan.trim} frames ({(plan.frames - plan.trim) / FPS:.2f} s) "
            f"in {plan.clips} clip{'s' * (plan.clips > 1)}, seed {options.base_seed}"
        )
        with stopwatch.phase("loading"):
            dit, vae = load_models(options, layouts)
        open_writer = partial(
            VideoWriter,
            output,
            width=width,
            height=height,
            sound=sound.native,
            rate=sound.native_rate,
            audio_start=plan.trim / FPS,
            fps=FPS,
            metadata={"title": options.prompt[:200], "comment": f"talkverse_jax seed {options.base_seed}"},
        )
        with open_writer() if is_main() else nullcontext() as writer:
            _write_clips(
                writer, options, plan, dit, vae, conditions, to_unit(fit(image, height, width)), stopwatch
            )
    if not is_main():
        return output
    mesh = dit.layout.mesh
    record = {
        "talkverse_jax": talkverse_jax.__version__,
        "jax": jax.__version__,
        "devices": [d.device_kind for d in (mesh.devices.flat if mesh else jax.local_devices()[:1])],
        "mesh": dict(mesh.shape) if mesh else None,
        "settings": dataclasses.asdict(options),
        "size": [height, width],
        "frames": plan.frames - plan.trim,
        "clips": plan.clips,
        "fps": FPS,
        "notices": [*sound.notices, *notices],
        "seconds": stopwatch.rounded(),
        "programs": {"compiled": programs.compiled, "from_cache": programs.cached},
        "weights": store.read_manifest(options.weights),
    }
    write_json(record_path, record)
    spent = ", ".join(f"{name.replace('_', ' ')} {t:.1f} s" for name, t in record["seconds"].items())
    _say(f"{output} ({spent}; {programs})")
    return output


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
    options: SampleOptions, configs: ModelConfigs, layouts: Layouts, sound: Sound, stopwatch: Stopwatch
) -> tuple[Conditions, list[str]]:
    """Run the text and audio encoders, one after the other, and drop each; notices for the user come along."""
    notices = []
    on_cpu = jax.default_device(host_device()) if options.t5_cpu else nullcontext()
    text_layout = Layout() if options.t5_cpu else layouts["text"]
    with on_cpu:
        with stopwatch.phase("loading"):
            encoder = TextEncoder(
                store.load_module(
                    options.weights, COMPONENTS["text"], dtype=options.dtype, layout=text_layout
                ),
                load_tokenizer(store.folder_of(options.weights, "text") / "tokenizer"),
            )
        with stopwatch.phase("encoding"):
            prompts = {"--prompt": options.prompt, "--negative_prompt": options.negative_prompt}
            encoded = encoder.encode(list(prompts.values()), configs.dit.trunk.text_len)
            for flag, tokens, kept in zip(prompts, encoded.tokens, encoded.lengths):
                if tokens > kept:
                    notices.append(f"{flag}: {tokens} tokens, cut to {kept}")
                    _say(notices[-1])
            text = np.asarray(encoded.states)
    del encoder, encoded
    with stopwatch.phase("loading"):
        audio_encoder = AudioEncoder(
            store.load_module(
                options.weights, COMPONENTS["audio"], dtype="float32", layout=layouts["audio"]
            )
        )
    with stopwatch.phase("encoding"):
        audio = audio_encoder.encode(sound.samples)
    return Conditions(text[:1], text[1:], audio), notices


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
    vae = store.load_module(
        options.weights, COMPONENTS["vae"], dtype=options.vae_dtype, layout=layouts["vae"]
    )
    return dit, vae


def _trained_file(options: SampleOptions) -> lora.TrainedFile | None:
    if options.lora_ckpt is None:
        return None
    return lora.TrainedFile(options.lora_ckpt, options.lora_rank, options.lora_alpha)


def _write_clips(
    writer: VideoWriter | None,
    options: SampleOptions,
    plan: Plan,
    dit: TalkVerse,
    vae: WanVAE22,
    conditions: Conditions,
    image: Float[np.ndarray, "H W 3"],
    stopwatch: Stopwatch,
) -> None:
    """Make the clips and write each as it is finished, trimmed and cut to the plan; without a writer (another
    process has it) only make them.

    Raises:
      UserError: a clip is not finite; those before it stay in the partial file.
    """
    with _progress(plan.clips, options.sample_steps) as (count_step, on_clip):
        shown = 0

        def on_step() -> None:
            stopwatch.mark("to_first_step")
            count_step()

        for clip in generate_clips(
            dit,
            vae,
            image=image,
            text=conditions.text,
            negative_text=conditions.negative_text,
            audio=conditions.audio,
            num_clips=plan.clips,
            settings=options.clip_settings(),
            noise=seeded_noise(options.base_seed),
            stopwatch=stopwatch,
            on_step=on_step,
        ):
            if writer is None:
                continue
            if not (np.isfinite(clip.latents).all() and np.isfinite(clip.frames).all()):
                raise UserError(_not_finite(clip.index, options, writer))
            part = slice(max(0, plan.trim - shown), plan.frames - shown)
            shown += len(clip.frames)
            with stopwatch.phase("writing"):
                writer.write(np.round(clip.frames[part] * 127.5 + 127.5).astype(np.uint8))
            del clip  # nothing of it is kept while the next one is made
            on_clip()


def _not_finite(index: int, options: SampleOptions, writer: VideoWriter) -> str:
    wide = options.dtype == options.vae_dtype == "float32"
    narrow = "" if wide else "try --dtype float32 --vae_dtype float32; if that is no help, "
    kept = f" (the {writer.frames} frames before it are in {writer.partial.name})" if writer.frames else ""
    return (
        f"clip {index + 1}: came out as values that are no numbers{kept}; {narrow}the weights are damaged: "
        f"delete {options.weights} and convert them again"
    )


@contextmanager
def _progress(clips: int, steps: int):
    """Two bars, clips and the steps of the clip in work, each with the time left."""
    bar = partial(tqdm, file=sys.stderr, dynamic_ncols=True, disable=not is_main())
    with (
        bar(total=clips, desc="clips", unit="clip", position=0) as clip_bar,
        bar(total=steps, desc="steps", unit="step", position=1, leave=False) as step_bar,
    ):

        def on_clip() -> None:
            clip_bar.update()
            if clip_bar.n < clips:
                step_bar.reset()

        yield step_bar.update, on_clip


def _say(line: str) -> None:
    if is_main():
        tqdm.write(line, file=sys.stderr)
