"""The toy checkpoint in every kind that people hold converts to the same bytes as the published files; where numbers
were quantised, to what they stand for."""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.convert.convert import convert
from talkverse_jax.convert.export import export
from talkverse_jax.convert.options import ConvertOptions
from talkverse_jax.core import tree
from talkverse_jax.core.errors import UserError
from talkverse_jax.families.talkverse.components import COMPONENTS
from talkverse_jax.families.talkverse.family import FAMILY
from talkverse_jax.families.talkverse.settings import Sources
from talkverse_jax.models.wan.diffusers_names import to_diffusers
from talkverse_jax.weights import safetensors_io as st
from talkverse_jax.weights import tiny_tokenizer
from talkverse_jax.weights.rule import find_rule
from tests.convert.kinds import (
    SIZES,
    TRAINED,
    WAN,
    Tensors,
    assert_same,
    converted,
    published,
    q8_0,
    save,
    save_gguf,
)
from tests.weights.test_sentencepiece_model import spiece_model

E4M3, E5M2 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, Tensors]:
    """The published files' parameters by component."""
    output = tmp_path_factory.mktemp("published")
    found = {name: converted(output, name, ckpt_dir=WAN) for name in ("dit", "vae", "text")}
    assert {one.kind for one in found.values()} == {"published"} and not any(one.notes for one in found.values())
    return {name: one.arrays for name, one in found.items()}


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def _tables(component: str) -> dict[str, tuple[str, ...]]:
    """All names of a tensor, the published one first, by our path."""
    one = COMPONENTS[component]
    paths = tree.abstract_parameters(one.abstract(getattr(SIZES, component)))
    return {path: find_rule(one.rules, path)[1] for path in paths}


def _named(component: str, place: int) -> dict[str, str]:
    """Other programs' names by the published ones: those at a place in the weight table."""
    return {names[0]: names[place if names[place:] else -1] for names in _tables(component).values()}


def _renamed(component: str, place: int) -> Tensors:
    names = _named(component, place)
    return {names[name]: value for name, value in published(component).items()}


@pytest.mark.parametrize(
    "prefix", ["", "model.diffusion_model.", pytest.param("diffusion_model.", marks=pytest.mark.slow)]
)
def test_one_file_of_any_name(expected, tmp_path, prefix):
    path = save(tmp_path / "wan2.2_5B_anything.sft", _under(prefix, published("dit")))
    found = converted(tmp_path / "w", "dit", dit_file=path)
    assert_same(found.arrays, expected["dit"])
    assert found.kind == (f"under {prefix}" if prefix else "published")


def test_three_models_in_one_file(expected, tmp_path):
    path = save(
        tmp_path / "all.safetensors",
        _under("model.diffusion_model.", published("dit"))
        | _under("vae.", published("vae"))
        | _under("text_encoders.umt5xxl.transformer.", _renamed("text", 1))
        | {"text_encoders.spiece_model": np.frombuffer(spiece_model(), np.uint8)},
    )
    files = {"dit_file": path, "vae_file": path, "text_file": path}
    for name in expected:
        found = converted(tmp_path / "w", name, **files)
        assert_same(found.arrays, expected[name])
        assert "tensors of other models passed over" in found.notes[0]
    assert (tmp_path / "w" / "text" / "tokenizer" / "tokenizer.json").is_file()


def _diffusers(folder: Path) -> Path:
    """A diffusers repository, its transformer in two shards."""
    dit = {to_diffusers(name): value for name, value in published("dit").items()}
    names = [*dit]
    index = {}
    for number, part in enumerate((names[:100], names[100:]), 1):
        file = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        save(folder / "transformer" / file, {name: dit[name] for name in part})
        index |= dict.fromkeys(part, file)
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    save(folder / "vae" / "diffusion_pytorch_model.safetensors", _renamed("vae", 1))
    save(folder / "text_encoder" / "model.safetensors", _renamed("text", 1))
    shutil.copytree(WAN / "google" / "umt5-xxl", folder / "tokenizer")
    (folder / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    return folder


def test_a_diffusers_repository(expected, tmp_path):
    folder = _diffusers(tmp_path / "Wan2.2-TI2V-5B-Diffusers")
    assert "decoder.up_blocks.0.upsampler.resample.1.weight" in _named("vae", 1).values()
    assert "encoder.block.0.layer.1.DenseReluDense.wi_0.weight" in _named("text", 1).values()
    for name, count in (("dit", 148), ("vae", 144), ("text", 22)):  # but for patch_embedding, all
        found = converted(tmp_path / "w", name, ckpt_dir=folder)
        assert_same(found.arrays, expected[name])
        assert found.kind == "other names"
        assert f"{count} tensors have another program's names" in found.notes[0]
    assert (tmp_path / "w/text/tokenizer/tokenizer.json").read_bytes() == (
        folder / "tokenizer/tokenizer.json"
    ).read_bytes()


def test_other_containers_in_the_published_folder(expected, tmp_path):
    """Safetensors in place of `.pth`, under the published names."""
    for name, file in (("vae", "Wan2.2_VAE"), ("text", "models_t5_umt5-xxl-enc-bf16")):
        save(tmp_path / "wan" / f"{file}.safetensors", published(name))
    shutil.copytree(WAN / "google", tmp_path / "wan" / "google")
    for name in ("vae", "text"):
        found = converted(tmp_path / "w", name, ckpt_dir=tmp_path / "wan")
        assert_same(found.arrays, expected[name])
        assert found.kind == "published"


def test_text_encoder_with_its_tokenizer_in_it(expected, tmp_path):
    """ComfyUI's: transformers' names, the embedding under both of its names, and a SentencePiece model."""
    tensors = _renamed("text", 1) | {"spiece_model": np.frombuffer(spiece_model(), np.uint8)}
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
    found = converted(tmp_path / "w", "text", text_file=save(tmp_path / "a" / "umt5.safetensors", tensors))
    assert_same(found.arrays, expected["text"])
    assert found.notes[-2].endswith("umt5.safetensors: tokenizer/tokenizer.json was made from what it holds")
    assert (tmp_path / "w" / "text" / "tokenizer" / "tokenizer.json").is_file()
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"] + tensors["shared.weight"].dtype.type(1)
    with pytest.raises(UserError, match="umt5.safetensors: holds token_embedding.weight twice, once as encoder.embed"):
        converted(tmp_path / "w", "text", text_file=save(tmp_path / "a" / "umt5.safetensors", tensors))


def test_text_encoder_without_a_tokenizer(tmp_path, expected):
    path = save(tmp_path / "a" / "umt5.safetensors", published("text"))
    with pytest.raises(UserError, match=r"umt5-xxl/tokenizer\.json: no such file, nor a spiece_model among"):
        converted(tmp_path / "w", "text", text_file=path)
    found = converted(tmp_path / "w", "text", text_file=path, ckpt_dir=WAN)  # which has it
    assert_same(found.arrays, expected["text"])
    tiny_tokenizer.save_tiny_tokenizer(tmp_path / "a")  # beside the file
    assert_same(converted(tmp_path / "v", "text", text_file=path).arrays, expected["text"])


def _linear(tensors: Tensors) -> list[str]:
    """The kernels of the blocks that programs quantise."""
    return [
        name for name, value in tensors.items() if value.ndim == 2 and name.startswith("blocks.") and "mod" not in name
    ]


def _expected_dit(numbers: Tensors, expected: dict[str, Tensors]) -> Tensors:
    """The DiT's parameters where the base model has these numbers in its linear layers."""
    wanted = dict(expected["dit"])
    for path, (name, *_) in _tables("dit").items():
        if name in numbers:
            wanted[path] = numbers[name].T.astype(wanted[path].dtype)
    return wanted


@pytest.mark.parametrize("dtype", [E4M3, pytest.param(E5M2, marks=pytest.mark.slow)])
def test_fp8_is_read_as_numbers(expected, tmp_path, dtype):
    tensors = published("dit")
    raw = {name: tensors[name].astype(dtype) for name in _linear(tensors)}
    found = converted(tmp_path / "w", "dit", dit_file=save(tmp_path / "fp8.safetensors", tensors | raw))
    numbers = {name: value.astype(np.float32) for name, value in raw.items()}
    assert_same(found.arrays, _expected_dit(numbers, expected))
    assert found.kind == "fp8" and found.notes == [f"dit: {tmp_path / 'fp8.safetensors'}: fp8, read as numbers"]


def test_fp8_goes_back_bit_for_bit(tmp_path):
    """What was kept as it came is exported as it came, whatever the file was called; what was changed is not."""
    base = published("dit")
    path = save(tmp_path / "my.safetensors", base | {name: base[name].astype(E4M3) for name in _linear(base)})
    options = ConvertOptions(
        output=str(tmp_path / "w"), components=("dit",), dtype="keep", lora_merge=False, export=str(tmp_path / "back")
    )
    convert(FAMILY, options, Sources(dit_file=str(path), lora_ckpt=str(TRAINED)), SIZES)
    export(FAMILY, options)
    assert (tmp_path / "back" / "Wan2.2-TI2V-5B" / "my.safetensors").read_bytes() == path.read_bytes()
    assert (tmp_path / "back" / TRAINED.name).read_bytes() == TRAINED.read_bytes()
    save(path, _under("diffusion_model.", base))
    convert(FAMILY, options, Sources(dit_file=str(path), lora_ckpt=str(TRAINED)), SIZES)
    with pytest.raises(UserError, match="has nothing to export among dit"):
        export(FAMILY, options)


SCALED = {
    "scale_weight": ("scale_weight", {"scaled_fp8": np.zeros(2, E4M3)}, "scale_input", ()),
    "weight_scale": ("weight_scale", {}, "input_scale", (1,)),
    "weight_scale of rows": ("weight_scale", {}, "input_scale", (-1, 1)),
}


@pytest.mark.parametrize(
    "style", [pytest.param(s, marks=pytest.mark.slow) if s == "weight_scale" else s for s in SCALED]
)
def test_fp8_with_scales_is_multiplied_out_in_float32(expected, tmp_path, style):
    scale_name, tensors, passed, shape = SCALED[style]
    base, numbers = published("dit"), {}
    tensors = dict(tensors) | base
    for place, name in enumerate(_linear(base)):
        layer, value = name.removesuffix(".weight"), base[name].astype(np.float32)
        largest = np.abs(value).max(1, keepdims=True) if len(shape) == 2 else np.abs(value).max()
        scale = (largest / 448).astype(np.float32)
        tensors[name] = (value / scale).astype(E4M3)
        tensors[f"{layer}.{scale_name}"] = scale.reshape(shape)
        tensors[f"{layer}.{passed}"] = np.float32(0.5)
        if place % 2:
            tensors[f"{layer}.comfy_quant"] = np.frombuffer(b'{"format": "float8_e4m3fn"}', np.uint8)
        numbers[name] = tensors[name].astype(np.float32) * scale
    layers = {name.removesuffix(".weight"): {"format": "float8_e4m3fn"} for name in numbers}
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    path = save(tmp_path / "fp8_scaled.safetensors", _under("diffusion_model.", tensors), metadata)
    found = converted(tmp_path / "w", "dit", dit_file=path)
    assert_same(found.arrays, _expected_dit(numbers, expected))
    assert found.kind == f"fp8 with scales ({len(numbers)}), under diffusion_model."
    assert found.notes == [f"dit: {path}: fp8 with scales ({len(numbers)}), turned to float32 and then rounded once"]


@pytest.mark.parametrize(
    "kind, dtype", [("qint8", np.int8), pytest.param("qfloat8_e4m3fn", E4M3, marks=pytest.mark.slow)]
)
def test_quanto_with_its_map(expected, tmp_path, kind, dtype):
    base, numbers = published("dit"), {}
    tensors = dict(base)
    for name in _linear(base):
        layer, value = name.removesuffix(".weight"), tensors.pop(name).astype(np.float32)
        scale = np.abs(value).max(1, keepdims=True) / 127
        tensors[f"{layer}.weight._data"] = np.rint(value / scale).astype(dtype)
        tensors[f"{layer}.weight._scale"] = scale.astype(BFLOAT16)
        tensors |= {f"{layer}.input_scale": np.float32(1), f"{layer}.output_scale": np.float32(1)}
        numbers[name] = tensors[f"{layer}.weight._data"].astype(np.float32) * scale.astype(BFLOAT16).astype(np.float32)
    path = save(tmp_path / "dit_model_int8.safetensors", tensors)
    with pytest.raises(UserError, match=r"is quantised by quanto \(\d+ layers\), and no map of just these lies beside"):
        converted(tmp_path / "w", "dit", dit_file=path)
    layers = {name.removesuffix(".weight"): {"weights": kind, "activations": "none"} for name in numbers}
    (tmp_path / "other_map.json").write_text(json.dumps(dict(list(layers.items())[1:])))
    (tmp_path / "dit_model_map_int8.json").write_text(json.dumps(layers))
    found = converted(tmp_path / "w", "dit", dit_file=path)
    assert_same(found.arrays, _expected_dit(numbers, expected))
    assert found.kind == "quanto"
    wrong = {layer: {"weights": "qint4", "activations": "none"} for layer in layers}
    (tmp_path / "dit_model_map_int8.json").write_text(json.dumps(wrong))
    with pytest.raises(UserError, match="is of qint4 with activations none; only qint8, "):
        converted(tmp_path / "v", "dit", dit_file=path)


def test_gguf(expected, tmp_path):
    """Blocks of 32 where rows divide, and the other kinds in turn; five axes as rows with their shape beside."""
    stored, numbers, original = {}, {}, {}
    for place, (name, value) in enumerate(published("dit").items()):
        if value.ndim == 2 and value.shape[1] % 32 == 0 and name.startswith("blocks."):
            data, numbers[name] = q8_0(value)
            stored[name] = data, "Q8_0"
        elif value.ndim > 4:
            stored[name], original[name] = (value.astype(np.float32).reshape(-1, value.shape[-1]), "F32"), value.shape
        elif place % 2 and value.dtype == BFLOAT16:
            stored[name] = value.view(np.uint8), "BF16"
        else:
            stored[name] = value.astype(np.float32), "F32"
    assert len(numbers) == 5 and original  # the second product of each block's FFN: rows of 384
    path = save_gguf(tmp_path / "wan.gguf", stored, original)
    found = converted(tmp_path / "w", "dit", dit_file=path)
    assert_same(found.arrays, _expected_dit(numbers, expected))
    assert found.kind.startswith("GGUF (") and "Q8_0" in found.kind and len(found.notes) == 1


def test_gguf_text_encoder_under_llama_names(expected, tmp_path):
    tensors = {}
    for name, value in _renamed("text", 3).items():
        tensors[name] = value.astype(np.float32), "F32"
    assert {"token_embd.weight", "enc.blk.0.ffn_gate.weight", "enc.output_norm.weight"} <= tensors.keys()
    found = converted(tmp_path / "w", "text", text_file=save_gguf(tmp_path / "t5.gguf", tensors), ckpt_dir=WAN)
    assert_same(found.arrays, expected["text"])
    assert found.kind == "GGUF (F32), other names"


LAYER = "blocks.0.self_attn.q"


@pytest.mark.parametrize("dtype", [np.int8, np.bool_])
def test_integers_are_never_taken_for_weights(tmp_path, dtype):
    tensors = published("dit")
    tensors[f"{LAYER}.weight"] = np.ones(tensors[f"{LAYER}.weight"].shape, dtype)
    with pytest.raises(UserError) as error:
        converted(tmp_path / "w", "dit", dit_file=save(tmp_path / "q.safetensors", tensors))
    report = "of whole numbers, where the model has floats (quantised?): 1\n"
    assert f"{report}    {LAYER}.weight: {np.dtype(dtype)}" in str(error.value)


def test_what_the_header_tells_of_layers(expected, tmp_path):
    """NVFP4 is refused where a layer of this model is such; what another model in the file is, does not matter."""
    tensors = _under("model.diffusion_model.", published("dit")) | _under("vae.", published("vae"))
    told = {"layers": {f"model.diffusion_model.{LAYER}": {"format": "nvfp4"}}}
    path = save(tmp_path / "q.safetensors", tensors, {"_quantization_metadata": json.dumps(told)})
    with pytest.raises(UserError, match=f"q.safetensors: model.diffusion_model.{LAYER} is of nvfp4, which is not read"):
        converted(tmp_path / "w", "dit", dit_file=path)
    assert_same(converted(tmp_path / "w", "vae", vae_file=path).arrays, expected["vae"])


def test_a_tensor_with_and_without_its_prefix(tmp_path):
    tensors = _under("diffusion_model.", published("dit")) | {f"{LAYER}.weight": published("dit")[f"{LAYER}.weight"]}
    with pytest.raises(UserError, match=f"x.safetensors: holds {LAYER}.weight with and without diffusion_model.; give"):
        converted(tmp_path / "w", "dit", dit_file=save(tmp_path / "x.safetensors", tensors))


def test_integers_are_no_pairs_either(tmp_path):
    trained = dict(st.read_file(TRAINED).tensors) | {
        f"{LAYER}.lora_A.weight": np.ones((4, 64), np.int8),
        f"{LAYER}.lora_B.weight": np.ones((64, 4), np.int8),
    }
    path = save(tmp_path / "lora.safetensors", trained)
    options = ConvertOptions(output=str(tmp_path / "w"), components=("dit",), lora_rank=4)
    with pytest.raises(UserError, match=rf"lora.safetensors: is quantised \({LAYER}.lora_A.weight is int8\)"):
        convert(FAMILY, options, Sources(ckpt_dir=str(WAN), lora_ckpt=str(path)), SIZES)


def test_the_report_stays_two_sided(tmp_path):
    tensors = _under("diffusion_model.", published("dit"))
    tensors["diffusion_model.vace_blocks.0.weight"] = tensors.pop(f"diffusion_model.{LAYER}.weight")
    path = save(tmp_path / "x.safetensors", tensors | {"strange": np.zeros(1, np.float32)})
    with pytest.raises(UserError) as error:
        converted(tmp_path / "w", "dit", dit_file=path)
    assert f"the model needs it): 1\n    {LAYER}.weight" in str(error.value)
    assert "the files have it): 2\n    strange\n    vace_blocks.0.weight" in str(error.value)


def test_a_pointer_in_the_published_folder(tmp_path):
    folder = Path(shutil.copytree(WAN, tmp_path / "wan"))
    (folder / "Wan2.2_VAE.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 2818839170\n")
    with pytest.raises(UserError, match=r"Wan2.2_VAE\.pth: is a Git LFS pointer to a file of 2,818,839,170 bytes"):
        converted(tmp_path / "w", "vae", ckpt_dir=folder)
    (folder / "google" / "umt5-xxl" / "tokenizer.json").write_bytes(b"<html>")
    with pytest.raises(UserError, match=r"tokenizer\.json: is a web page, not the file"):
        converted(tmp_path / "w", "text", ckpt_dir=folder)
