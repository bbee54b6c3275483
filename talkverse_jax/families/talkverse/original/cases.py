"""Each component with the weights a person holds: files -> one case of a reference bundle."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.original import inputs, models, runs
from talkverse_jax.families.talkverse.original.inputs import FPS, MOTION_FRAMES, Arrays
from talkverse_jax.families.talkverse.original.options import DumpOptions

Sizes = Mapping[str, Any]  # of the models, where they are not the published ones, by component

# Names of the published files in --ckpt_dir and --wav2vec_dir.
DIT_SHARDS = "diffusion_pytorch_model*.safetensors"
VAE_FILE = "Wan2.2_VAE.pth"
UMT5_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
WAV2VEC2_FILE = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class OriginalCase:
    """What one component leaves in the bundle.

    Attributes:
      files: the weight files that were read.
      extra: metadata entries beside component, config and weights.
    """

    config: dict[str, Any]
    files: list[Path]
    inputs: Arrays
    outputs: Arrays
    taps: Arrays
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


def _find(options: DumpOptions, name: str, pattern: str) -> list[Path]:
    folder = options.path(name)
    files = sorted(folder.glob(pattern))
    if not files:
        raise UserError(f"{folder}: no {pattern} in it; give the published folder, complete", field=name)
    return files


def _build_dit(options: DumpOptions, sizes: Sizes) -> tuple[Any, list[Path]]:
    shards = _find(options, "ckpt_dir", DIT_SHARDS)
    base = {name: value for shard in shards for name, value in models.read_safetensors(shard).items()}
    trained = models.read_safetensors(options.path("lora_ckpt"))
    state = models.merge_dit(base, trained, options.lora_rank, options.lora_alpha, str(options.lora_ckpt))
    where = f"{options.ckpt_dir} and {options.lora_ckpt}"
    return models.build_dit(state, where, sizes.get("dit")), [*shards, options.path("lora_ckpt")]


def _build_vae(options: DumpOptions, sizes: Sizes) -> tuple[Any, list[Path]]:
    files = _find(options, "ckpt_dir", VAE_FILE)
    return models.build_vae(models.read_pth(files[0]), str(files[0]), sizes.get("vae")), files


def _dit(options: DumpOptions, sizes: Sizes) -> OriginalCase:
    model, files = _build_dit(options, sizes)
    config = models.dit_config(model)
    given = inputs.dit_inputs(config, options.size, options.seed)
    extra = {"motion_frames": MOTION_FRAMES, "drop_motion_frames": options.first_clip}
    return OriginalCase(config, files, given, *runs.run_dit(model, given, MOTION_FRAMES, options.first_clip), extra)


def _vae(options: DumpOptions, sizes: Sizes) -> OriginalCase:
    vae, files = _build_vae(options, sizes)
    given = inputs.vae_inputs(options.size, options.seed)
    return OriginalCase(models.vae_config(vae), files, given, *runs.run_vae(vae, given))


def _umt5(options: DumpOptions, sizes: Sizes) -> OriginalCase:
    files = _find(options, "ckpt_dir", UMT5_FILE)
    model = models.build_umt5(models.read_pth(files[0]), str(files[0]), sizes.get("umt5_encoder"))
    config = models.umt5_config(model)
    given = inputs.umt5_inputs(config, options.seed)
    return OriginalCase(config, files, given, *runs.run_umt5(model, given))


def _wav2vec2(options: DumpOptions, sizes: Sizes) -> OriginalCase:
    files = _find(options, "wav2vec_dir", WAV2VEC2_FILE)
    model = transformers.Wav2Vec2ForCTC.from_pretrained(options.path("wav2vec_dir")).float().eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(options.path("wav2vec_dir"))
    given = inputs.wav2vec2_inputs(options.size, options.seed)
    extra = {"made_with": f"transformers {transformers.__version__}"}
    return OriginalCase(models.wav2vec2_config(model), files, given, *runs.run_wav2vec2(model, extractor, given), extra)


def _pipeline(options: DumpOptions, sizes: Sizes) -> OriginalCase:
    dit, dit_files = _build_dit(options, sizes)
    vae, vae_files = _build_vae(options, sizes)
    settings = models.published()
    config = {
        "dit": models.dit_config(dit),
        "vae": models.vae_config(vae),
        "infer_frames": options.frames,
        "height": options.height,
        "width": options.width,
        "num_clips": options.num_clip,
        "steps": options.sample_steps,
        "shift": float(settings.sample_shift),
        "guide_scale": float(settings.sample_guide_scale),
        "solver": options.sample_solver,
        "motion_frames": MOTION_FRAMES[0],
        "drop_first_motion": settings.drop_first_motion,
        "fps": FPS,
    }
    given = inputs.pipeline_inputs(config["dit"], options.size, options.num_clip, options.seed)
    return OriginalCase(config, dit_files + vae_files, given, *runs.run_pipeline(dit, vae, config, given))


CASES: dict[str, Callable[[DumpOptions, Sizes], OriginalCase]] = {
    "dit": _dit,
    "vae": _vae,
    "umt5_encoder": _umt5,
    "wav2vec2": _wav2vec2,
    "pipeline": _pipeline,
}
