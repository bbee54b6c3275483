"""The original's models, built from a clone with given weights, in float32."""

import inspect
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch  # pyright: ignore[reportMissingImports]  # of the original's own environment
from safetensors import SafetensorError, safe_open

from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.original.exact import load, without_storage

State = Mapping[str, Any]  # tensors by name, of torch or numpy
Sizes = Mapping[str, Any] | None  # named as in a bundle's config; None for the published ones


def published() -> Any:
    """The original's settings of the 5B model."""
    return load("wan.configs.wan_s2v_5B").s2v_5B


def create_dit(sizes: Sizes = None) -> torch.nn.Module:
    """Their DiT, without weights yet."""
    cls = load("wan.modules.s2v.model_s2v_5b").WanModel_S2V_5B
    accepted = inspect.signature(cls.__init__).parameters
    settings = {key: value for key, value in published().transformer.items() if key in accepted}
    settings |= {"in_dim": 48, "out_dim": 48, "text_dim": 4096, "text_len": published().text_len}
    with without_storage():
        return cls(**settings | dict(sizes or {}))


def build_dit(state: State, where: str, sizes: Sizes = None) -> torch.nn.Module:
    """Their DiT holding the tensors of `state`; arguments and errors as `fill`."""
    return fill(create_dit(sizes), state, where)


def build_vae(state: State, where: str, sizes: Sizes = None) -> Any:
    """Their VAE with its latent constants; arguments and errors as `fill`."""
    module = load("wan.modules.vae2_2")
    defaults = inspect.signature(module.Wan2_2_VAE.__init__).parameters
    settings = {name: defaults[name].default for name in ("z_dim", "dim_mult", "temperal_downsample")}
    settings["dim"] = defaults["c_dim"].default
    for name, value in (sizes or {}).items():
        settings["temperal_downsample" if name == "temporal_downsample" else name] = value  # their spelling
    with without_storage():
        model = module.WanVAE_(**settings)
    with mock.patch.object(module, "_video_vae", return_value=fill(model, state, where)):
        return module.Wan2_2_VAE(z_dim=settings["z_dim"], device="cpu")


def build_umt5(state: State, where: str, sizes: Sizes = None) -> torch.nn.Module:
    """Their UMT5 encoder; arguments and errors as `fill`."""
    module = load("wan.modules.t5")
    with torch.device("meta"):
        model = module.T5Encoder(**sizes) if sizes else module.umt5_xxl(encoder_only=True, device="meta")
    return fill(model, state, where)


def fill(model: torch.nn.Module, state: State, where: str) -> torch.nn.Module:
    """Give a model its weights. Names it does not know are passed over, as the original does.

    Args:
      where: the file they come from, for error messages.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    tensors = {}
    for name, parameter in model.state_dict().items():
        if name not in state:
            raise UserError(f"{where}: no tensor {name}; is it the right file, and complete?")
        tensors[name] = torch.as_tensor(state[name]).float()
        if tensors[name].shape != parameter.shape:
            found, wanted = list(tensors[name].shape), list(parameter.shape)
            raise UserError(f"{where}: {name} is {found}, not {wanted}; give the sizes with --config")
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def dit_config(model: Any) -> dict[str, Any]:
    """The `config` of a bundle for this DiT."""
    names = ("dim", "ffn_dim", "freq_dim", "text_dim", "text_len", "num_heads", "num_layers")
    return {name: getattr(model, name) for name in names} | {
        "audio_dim": model.casual_audio_encoder.encoder.conv1_local.conv.in_channels,
        "audio_inject_layers": sorted(model.audio_injector.injected_block_id),
    }


def vae_config(vae: Any) -> dict[str, Any]:
    """The `config` of a bundle for this VAE."""
    model = vae.model
    return {
        "dim": model.dim,
        "dec_dim": model.decoder.dim,
        "z_dim": model.z_dim,
        "dim_mult": list(model.dim_mult),
        "num_res_blocks": model.num_res_blocks,
        "temporal_downsample": list(model.temperal_downsample),
    }


def umt5_config(model: Any) -> dict[str, Any]:
    """The `config` of a bundle for this UMT5 encoder."""
    names = ("dim", "dim_attn", "dim_ffn", "num_heads", "num_layers", "num_buckets", "shared_pos")
    return {"vocab": model.token_embedding.num_embeddings} | {name: getattr(model, name) for name in names}


def wav2vec2_config(model: Any) -> dict[str, Any]:
    """The `config` of a bundle for this Wav2Vec2ForCTC: the settings its hidden states depend on."""
    front = ("feat_extract_norm", "feat_extract_activation", "conv_dim", "conv_stride", "conv_kernel")
    position = ("conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups")
    trunk = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
    norm = ("layer_norm_eps", "do_stable_layer_norm", "vocab_size")
    settings = {name: getattr(model.config, name) for name in front + position + trunk + norm}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a safetensors file.

    Raises:
      UserError: it is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}); download it again") from None


def read_pth(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a state dict that torch saved, mapped rather than read.

    Raises:
      UserError: it is none.
    """
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError):
        raise UserError(f"{path}: not a readable PyTorch state dict; download it again") from None


def merge_dit(base: dict[str, Any], trained: State, rank: int, alpha: float, where: str) -> dict[str, Any]:
    """The DiT's tensors by name: a trained one wins over the base, then every LoRA pair adds
    `alpha / rank * B @ A`, multiplied in float32 (the original multiplies in the file's bfloat16).
    Changes `base` and returns it, so that old and new weights are never held at once.

    Raises:
      UserError: half a LoRA pair, a pair of another rank, or one whose weight is in neither file.
    """
    trained = {name.removeprefix("model."): value for name, value in trained.items()}
    base |= {name: value for name, value in trained.items() if ".lora_" not in name}
    for stem in sorted({name.rpartition(".lora_")[0] for name in trained if ".lora_" in name}):
        names = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        if not trained.keys() >= set(names) or f"{stem}.weight" not in base:
            raise UserError(f"{where}: {stem} wants {names[0]}, {names[1]} and a weight to add them to")
        down, up = (torch.as_tensor(trained[name]).float() for name in names)
        if len(down) != rank:
            raise UserError(
                f"{where}: {names[0]} has rank {len(down)}; give --lora_rank {len(down)}, and its own --lora_alpha"
            )
        weight = torch.as_tensor(base[f"{stem}.weight"]).float()
        base[f"{stem}.weight"] = weight + (alpha / rank) * (up @ down)
    return base
