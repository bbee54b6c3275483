"""Each component with the weights a person holds: files -> one case of a reference bundle."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

from talkverse_jax.core.errors import UserError
from talkverse_jax.parity.original import inputs, models, runs
from talkverse_jax.parity.original.inputs import FPS, MOTION_FRAMES, Arrays, Size

# Names of the published files in --ckpt_dir and --wav2vec_dir.
DIT_SHARDS = "diffusion_pytorch_model*.safetensors"
VAE_FILE = "Wan2.2_VAE.pth"
UMT5_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
WAV2VEC2_FILE = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Case:
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


def _find(flag: str, folder: Path, pattern: str) -> list[Path]:
    files = sorted(folder.glob(pattern))
    if not files:
        raise UserError(f"{flag}: no {pattern} in {folder}; give the published folder, complete")
    return files


def _build_dit(args: argparse.Namespace) -> tuple[Any, list[Path]]:
    shards = _find("--ckpt_dir", args.ckpt_dir, DIT_SHARDS)
    base = {name: value for shard in shards for name, value in models.read_safetensors(shard).items()}
    trained = models.read_safetensors(args.lora_ckpt)
    state = models.merge_dit(base, trained, args.lora_rank, args.lora_alpha, str(args.lora_ckpt))
    where = f"{args.ckpt_dir} and {args.lora_ckpt}"
    return models.build_dit(state, where, args.config.get("dit")), [*shards, args.lora_ckpt]


def _build_vae(args: argparse.Namespace) -> tuple[Any, list[Path]]:
    files = _find("--ckpt_dir", args.ckpt_dir, VAE_FILE)
    return models.build_vae(models.read_pth(files[0]), str(files[0]), args.config.get("vae")), files


def _dit(args: argparse.Namespace, size: Size) -> Case:
    model, files = _build_dit(args)
    config = models.dit_config(model)
    given = inputs.dit_inputs(config, size, args.seed)
    extra = {"motion_frames": MOTION_FRAMES, "drop_motion_frames": args.first_clip}
    return Case(config, files, given, *runs.run_dit(model, given, MOTION_FRAMES, args.first_clip), extra)


def _vae(args: argparse.Namespace, size: Size) -> Case:
    vae, files = _build_vae(args)
    given = inputs.vae_inputs(size, args.seed)
    return Case(models.vae_config(vae), files, given, *runs.run_vae(vae, given))


def _umt5(args: argparse.Namespace, size: Size) -> Case:
    files = _find("--ckpt_dir", args.ckpt_dir, UMT5_FILE)
    model = models.build_umt5(models.read_pth(files[0]), str(files[0]), args.config.get("umt5_encoder"))
    config = models.umt5_config(model)
    given = inputs.umt5_inputs(config, args.seed)
    return Case(config, files, given, *runs.run_umt5(model, given))


def _wav2vec2(args: argparse.Namespace, size: Size) -> Case:
    files = _find("--wav2vec_dir", args.wav2vec_dir, WAV2VEC2_FILE)
    model = transformers.Wav2Vec2ForCTC.from_pretrained(args.wav2vec_dir).float().eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(args.wav2vec_dir)
    given = inputs.wav2vec2_inputs(size, args.seed)
    extra = {"made_with": f"transformers {transformers.__version__}"}
    return Case(models.wav2vec2_config(model), files, given, *runs.run_wav2vec2(model, extractor, given), extra)


def _pipeline(args: argparse.Namespace, size: Size) -> Case:
    dit, dit_files = _build_dit(args)
    vae, vae_files = _build_vae(args)
    settings = models.published()
    config = {
        "dit": models.dit_config(dit),
        "vae": models.vae_config(vae),
        "infer_frames": size.frames,
        "height": size.height,
        "width": size.width,
        "num_clips": args.num_clip,
        "steps": args.sample_steps,
        "shift": float(settings.sample_shift),
        "guide_scale": float(settings.sample_guide_scale),
        "solver": args.sample_solver,
        "motion_frames": MOTION_FRAMES[0],
        "drop_first_motion": settings.drop_first_motion,
        "fps": FPS,
    }
    given = inputs.pipeline_inputs(config["dit"], size, args.num_clip, args.seed)
    return Case(config, dit_files + vae_files, given, *runs.run_pipeline(dit, vae, config, given))


CASES: dict[str, Callable[[argparse.Namespace, Size], Case]] = {
    "dit": _dit,
    "vae": _vae,
    "umt5_encoder": _umt5,
    "wav2vec2": _wav2vec2,
    "pipeline": _pipeline,
}
