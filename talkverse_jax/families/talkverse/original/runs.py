"""The original's components run once each: inputs of a reference bundle -> its outputs and taps.

B batch, F latent frames, h w latent grid, L tokens, D width, C channels; channels second, as PyTorch has it.
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import torch  # pyright: ignore[reportMissingImports]  # of the original's own environment
from PIL import Image

from talkverse_jax.families.talkverse.original.exact import load
from talkverse_jax.families.talkverse.original.inputs import Arrays
from talkverse_jax.families.talkverse.original.models import published


@torch.no_grad()
def predict_velocity(
    model: Any, given: Mapping[str, torch.Tensor], motion_frames: list[int], first_clip: bool
) -> torch.Tensor:
    """One call of the DiT.

    Args:
      given: latents, ref_latents and motion_latents [1, 48, F, h, w], timestep [1], context [1, L, C],
        audio [1, 25, A, 4 F].
      motion_frames: frames and latent frames of motion context, [73, 19].
      first_clip: drop the motion tokens.

    Returns:
      [1, 48, F, h, w].
    """
    (velocity,) = model(
        list(given["latents"]),
        t=given["timestep"],
        context=list(given["context"]),
        seq_len=None,  # unused
        ref_latents=given["ref_latents"],
        motion_latents=given["motion_latents"],
        audio_input=given["audio"],
        motion_frames=motion_frames,
        drop_motion_frames=first_clip,
    )
    return velocity[None]


@torch.no_grad()
def run_dit(model: Any, inputs: Arrays, motion_frames: list[int], first_clip: bool) -> tuple[Arrays, Arrays]:
    """One velocity prediction; arguments as `predict_velocity`."""
    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    taps: Arrays = {}

    def keep(name: str) -> Callable[..., None]:
        # The first call wins: patch_embedding sees the noisy latents before the reference.
        def hook(_module: Any, _inputs: Any, out: torch.Tensor) -> None:
            taps.setdefault(name, out.numpy().copy())

        return hook

    def keep_audio(_module: Any, _inputs: Any, out: tuple[torch.Tensor, torch.Tensor]) -> None:
        taps["audio_global_all"], taps["audio_tokens_all"] = (x.numpy().copy() for x in out)

    def keep_motion(_module: Any, _inputs: Any, out: tuple[list, list]) -> None:
        taps["motion_tokens"] = out[0][0].numpy().copy()

    after_block = model.after_transformer_block

    def keep_block(index: int, hidden: torch.Tensor) -> torch.Tensor:
        taps[f"block_{index}_before_audio"] = hidden.numpy().copy()  # it is changed in place
        hidden = after_block(index, hidden)
        taps[f"block_{index}"] = hidden.numpy().copy()
        return hidden

    with contextlib.ExitStack() as hooks:
        for name in ("patch_embedding", "text_embedding", "time_projection"):
            hooks.enter_context(getattr(model, name).register_forward_hook(keep(name)))
        hooks.enter_context(model.casual_audio_encoder.register_forward_hook(keep_audio))
        hooks.enter_context(model.frame_packer.register_forward_hook(keep_motion))
        hooks.enter_context(mock.patch.object(model, "after_transformer_block", keep_block))
        velocity = predict_velocity(model, given, motion_frames, first_clip)
    rope = model.pre_compute_freqs[:, :, :1]  # the same for every head
    taps |= {"rope_real": rope.real.float().numpy(), "rope_imag": rope.imag.float().numpy()}
    return {"velocity": velocity.numpy()}, taps


@torch.no_grad()
def run_vae(vae: Any, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """`video` [B, 3, T, H, W] -> normalised latents; `latents` [B, 48, F, h, w] -> video, not clamped."""
    encoded = vae.model.encode(torch.from_numpy(inputs["video"]), vae.scale)
    decoded = vae.model.decode(torch.from_numpy(inputs["latents"]), vae.scale)
    mean, inverse_std = vae.scale
    return (
        {"encoded": encoded.numpy(), "decoded": decoded.numpy()},
        {"mean": mean.numpy(), "std": (1 / inverse_std).numpy()},
    )


@torch.no_grad()
def run_umt5(model: Any, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """`ids`, `mask` [B, L] -> hidden states [B, L, D]."""
    hidden = model(torch.from_numpy(inputs["ids"]), torch.from_numpy(inputs["mask"]))
    return {"hidden": hidden.numpy()}, {}


@torch.no_grad()
def run_wav2vec2(model: Any, extractor: Any, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """`waveform` [1, samples] at 16 kHz -> all hidden states [layers, frames, D], and those at 25 fps."""
    normalized = extractor(inputs["waveform"][0], sampling_rate=16_000, return_tensors="pt").input_values
    # transformers 5 returns the last state before the final norm, 4 after it: take it from the norm itself.
    final = []
    norm = model.wav2vec2.encoder.layer_norm
    with norm.register_forward_hook(lambda _module, _inputs, out: final.append(out)):
        states = model(normalized, output_hidden_states=True).hidden_states
    hidden = torch.cat([*states[:-1], final[0]])
    resample = load("wan.modules.s2v.audio_encoder").linear_interpolation
    at_25 = resample(hidden, input_fps=50, output_fps=25)
    return (
        {"hidden_states": hidden.numpy(), "hidden_states_25fps": at_25.numpy()},
        {"normalized": normalized.numpy()},
    )


@torch.no_grad()
def run_pipeline(dit: Any, vae: Any, config: Mapping[str, Any], inputs: Arrays) -> tuple[Arrays, Arrays]:
    """Their sampling loop: picture, audio features, text states, noise -> video [3, T, H, W] in [-1, 1].

    Args:
      inputs: image [H', W', 3] uint8, audio_features [25, rows, A] at 25 fps, context and
        negative_context [1, L, C], noise [clips, 48, F, h, w].
    """
    module = load("wan.s2v_5b")
    height, width = config["height"], config["width"]
    features = torch.from_numpy(inputs["audio_features"])
    audio = object.__new__(module.AudioEncoder)
    audio.video_rate = config["fps"]
    audio.extract_audio_feat = lambda *_, **__: features
    texts = {"yes": inputs["context"], "no": inputs["negative_context"]}

    program = object.__new__(module.WanS2V_5B)  # its constructor reads every file and takes a GPU
    vars(program).update(
        device=torch.device("cpu"),
        param_dtype=torch.float32,
        rank=0,
        t5_cpu=True,
        init_on_cpu=False,
        num_train_timesteps=published().num_train_timesteps,
        drop_first_motion=config["drop_first_motion"],
        num_motion_frames=config["motion_frames"],
        fps=config["fps"],
        audio_sample_m=0,
        size_bucket="dump",
        infer_buckets={"dump": {str(height / width): ([height, width], 1)}},
        text_encoder=lambda prompts, _device: [torch.from_numpy(texts[prompts[0]][0])],
        audio_encoder=audio,
        vae=vae,
        noise_model=dit,
    )
    decode, clips = vae.decode, []
    frames = inputs["noise"].shape[2]

    def keep_latents(latents: list[torch.Tensor]) -> list[torch.Tensor]:
        clips.append(latents[0][:, -frames:].numpy().copy())  # behind the motion latents
        return decode(latents)

    with (
        tempfile.NamedTemporaryFile(suffix=".png") as picture,
        mock.patch.object(vae, "decode", keep_latents),
        mock.patch.object(torch, "randn", side_effect=torch.from_numpy(inputs["noise"]).unbind()),
        contextlib.redirect_stdout(sys.stderr),
    ):
        Image.fromarray(inputs["image"]).save(picture.name)
        video = program.generate(
            "yes",
            picture.name,
            audio_path=None,
            enable_tts=False,
            tts_prompt_audio=None,
            tts_prompt_text=None,
            tts_text=None,
            num_repeat=config["num_clips"],
            infer_frames=config["infer_frames"],
            shift=config["shift"],
            sample_solver=config["solver"],
            sampling_steps=config["steps"],
            guide_scale=config["guide_scale"],
            n_prompt="no",
            seed=0,
            offload_model=False,
        )
    return {"video": video.numpy()}, {f"latents_clip_{i}": latents for i, latents in enumerate(clips)}
