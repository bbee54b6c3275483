"""The dialects of trained files: the same pairs in each give equal weights, and what is not read is refused by name."""

from pathlib import Path

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from talkverse_jax.core.errors import UserError
from talkverse_jax.weights.asked import Asked, TrainedFile
from talkverse_jax.weights.trained import lay_over, open_all
from tests.weights import dialects
from tests.weights.dialects import (
    DIALECTS,
    DIT,
    EXTRACTED,
    LAYERS,
    MIXED,
    NO_ALPHA,
    ONE_ALPHA,
    SHAPES,
    SIZES,
    WITH_ALPHA_TENSORS,
    Training,
    normal,
    write,
)


def laid_over(*files: TrainedFile) -> dict[str, np.ndarray]:
    """What changed of a tiny transformer, by tensor, in PyTorch's layout."""
    before, after = dialects.parameters(), dialects.parameters()
    lay_over(after, open_all(files, DIT, SHAPES), DIT.rules)
    found = {}
    for name, home in DIT.homes(SHAPES).items():
        change = np.asarray(after[home.path], np.float64) - np.asarray(before[home.path], np.float64)
        if change.any():
            found[name] = home.rule.layout.to_torch(change)
    return found


def check(found: dict[str, np.ndarray], *wanted: dict[str, np.ndarray]) -> None:
    """Make sure that the changes are the sum of those wanted, to 1e-6."""
    assert found.keys() == {name for each in wanted for name in each}
    for name, value in found.items():
        total = sum(each[name] for each in wanted if name in each)
        np.testing.assert_allclose(value, total, atol=1e-6, rtol=0, err_msg=name)


def notice(path: Path, **asked) -> str:
    [opened] = open_all([TrainedFile(path, **asked)], DIT, SHAPES)
    return opened.notice


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_without_alphas_counts_once(tmp_path, dialect):
    path = write(tmp_path / "a.safetensors", DIALECTS[dialect](NO_ALPHA))
    check(laid_over(TrainedFile(path)), NO_ALPHA.differences())
    assert notice(path) == (
        "a.safetensors: strength 1: 5 LoRA pairs of rank 1 to 8, which count 1 times (no alpha in the file)"
    )


@pytest.mark.parametrize("dialect", WITH_ALPHA_TENSORS)
def test_alpha_tensors_and_mixed_ranks(tmp_path, dialect):
    path = write(tmp_path / "a.safetensors", DIALECTS[dialect](MIXED))
    check(laid_over(TrainedFile(path)), MIXED.differences())
    assert notice(path).endswith(
        "5 LoRA pairs of rank 1 to 8, which count 0.25 to 5 times "
        "(its .alpha tensors; --lora_alpha ignore passes over them)"
    )


def test_all_differences_of_an_extraction(tmp_path):
    path = write(tmp_path / "a.safetensors", DIALECTS["lightx2v"](EXTRACTED))
    check(laid_over(TrainedFile(path, 0.5)), EXTRACTED.differences(0.5))
    assert notice(path).endswith("ignore passes over them), 8 differences added")


def test_alphas_that_the_person_passes_over(tmp_path):
    path = write(tmp_path / "a.safetensors", DIALECTS["lightx2v"](MIXED))
    check(laid_over(TrainedFile(path, 0.5, alpha="ignore")), NO_ALPHA.differences(0.5))
    assert notice(path, alpha="ignore").endswith("which count 1 times (its alpha passed over)")
    assert Asked(lora_alpha="ignore").files([path])[0].alpha == "ignore"


def test_two_files_of_one_name_both_count(tmp_path):
    other = Training({LAYERS[0]: 3}, seed="other")
    first = write(tmp_path / "a" / "Wan2.1.safetensors", DIALECTS["lightx2v"](NO_ALPHA))
    second = write(tmp_path / "b" / "Wan2.1.safetensors", DIALECTS["lightx2v"](other))
    check(laid_over(TrainedFile(first), TrainedFile(second)), NO_ALPHA.differences(), other.differences())


@pytest.mark.parametrize("rank, alpha, scale", [(8, 4, 0.5), (32, 32, 1), (128, 64, 0.5)])
def test_our_header_gives_the_strength(tmp_path, rank, alpha, scale):
    training = Training({LAYERS[0]: rank}, {LAYERS[0]: alpha})
    header = {"lora_rank": str(rank), "lora_alpha": str(alpha)}
    path = write(tmp_path / "a.safetensors", DIALECTS["published"](training), header)
    check(laid_over(TrainedFile(path)), training.differences())
    assert f"of rank {rank}, which count {scale} times (its header)" in notice(path)


def test_peft_s_config_beside_the_file(tmp_path):
    path = dialects.peft(tmp_path, ONE_ALPHA, r=4, lora_alpha=2)
    check(laid_over(TrainedFile(path)), ONE_ALPHA.differences())
    assert notice(path).endswith("of rank 4, which count 0.5 times (adapter_config.json)")
    patterns = {layer.partition(".")[2]: alpha for layer, alpha in MIXED.alphas.items()}
    path = dialects.peft(tmp_path, MIXED, r=4, lora_alpha=9, rank_pattern=MIXED.ranks, alpha_pattern=patterns)
    check(laid_over(TrainedFile(path)), MIXED.differences())


def test_peft_s_rslora(tmp_path):
    path = dialects.peft(tmp_path, ONE_ALPHA, r=4, lora_alpha=2, use_rslora=True)
    check(laid_over(TrainedFile(path)), ONE_ALPHA.differences(2.0))  # 2/sqrt(4) where 2/4 was


def test_diffusers_metadata_in_the_header(tmp_path):
    path = dialects.diffusers(tmp_path / "a.safetensors", ONE_ALPHA, r=4, lora_alpha=2)
    check(laid_over(TrainedFile(path)), ONE_ALPHA.differences())
    patterns = {r"blocks\.0\.attn1\.to_q": 1.0, "attn2.to_k": 8.0, "attn1.to_out.0": 2.0, "ffn.net.0.proj": 3.0}
    path = dialects.diffusers(tmp_path / "a.safetensors", MIXED, r=4, lora_alpha=5, alpha_pattern=patterns)
    check(laid_over(TrainedFile(path)), MIXED.differences())


def test_two_files_with_strengths(tmp_path):
    other = Training({LAYERS[0]: 3, LAYERS[2]: 2}, diffs=("blocks.0.self_attn.q.bias",), seed="other")
    first = write(tmp_path / "a.safetensors", DIALECTS["lightx2v"](EXTRACTED))
    second = write(tmp_path / "b.safetensors", DIALECTS["lightx2v"](other))
    files = Asked((1.0, 0.8)).files((first, second))
    check(laid_over(*files), EXTRACTED.differences(), other.differences(0.8))


def test_a_bias_of_a_pair_counts_like_the_pair(tmp_path):
    tensors = DIALECTS["ComfyUI, diffusion-pipe, ai-toolkit"](ONE_ALPHA)
    bias = normal("bias", 64)
    tensors[f"diffusion_model.{LAYERS[0]}.lora_B.bias"] = bias
    found = laid_over(TrainedFile(write(tmp_path / "a.safetensors", tensors), 0.5))
    check(found, ONE_ALPHA.differences(0.5), {f"{LAYERS[0]}.bias": 0.25 * bias})


def test_whole_tensors_replace_whatever_the_strength(tmp_path):
    tensors = DIALECTS["published"](NO_ALPHA) | {"head.head.weight": normal("x", *SIZES["head.head.weight"])}
    path = write(tmp_path / "a.safetensors", tensors)
    after = dialects.parameters()
    lay_over(after, open_all([TrainedFile(path, 0.5)], DIT, SHAPES), DIT.rules)
    np.testing.assert_array_equal(after["head/linear/kernel"].T, tensors["head.head.weight"])
    assert notice(path, strength=0.5).endswith("1 tensors replaced, whatever the strength")


def test_pairs_of_a_text_encoder_are_said_and_left_out(tmp_path):
    tensors = DIALECTS["musubi-tuner, kohya"](MIXED)
    tensors["lora_te1_encoder_layer_0.lora_down.weight"] = normal("t", 2, 8)
    path = write(tmp_path / "a.safetensors", tensors)
    check(laid_over(TrainedFile(path)), MIXED.differences())
    left = "1 tensors for a text encoder left out, such as lora_te1_encoder_layer_0.lora_down.weight"
    assert notice(path).endswith(left)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float64"])
def test_any_numbers_and_the_sum_in_float32(tmp_path, dtype):
    from talkverse_jax.weights.safetensors_io import make_header, write_file

    tensors = {name: value.astype(dtype) for name, value in DIALECTS["published"](NO_ALPHA).items()}
    header = make_header({name: (value.dtype, value.shape) for name, value in tensors.items()}, {})
    write_file(tmp_path / "a.safetensors", header, tensors.values())
    before, after = dialects.parameters(jnp.bfloat16), dialects.parameters(jnp.bfloat16)
    lay_over(after, open_all([TrainedFile(tmp_path / "a.safetensors")], DIT, SHAPES), DIT.rules)
    a, b = (tensors[f"{LAYERS[0]}.lora_{factor}.weight"].astype(np.float32) for factor in "AB")
    exact = np.asarray(before["blocks/0/self_attn/q/kernel"], np.float32) + (b @ a).T
    found = after["blocks/0/self_attn/q/kernel"]
    assert (found.dtype, found.sharding) == (jnp.bfloat16, before["blocks/0/self_attn/q/kernel"].sharding)
    np.testing.assert_allclose(
        np.asarray(found, np.float32), exact.astype(ml_dtypes.bfloat16).astype(np.float32), rtol=2**-7
    )


Q = "blocks.0.self_attn.q"
PAIR = {f"{Q}.lora_A.weight": normal("a", 2, 64), f"{Q}.lora_B.weight": normal("b", 64, 2)}
WIDE = {
    f"diffusion_model.{layer}.lora_{factor}.weight": normal(factor, *shape)
    for layer in ("blocks.0.self_attn.q", "blocks.30.self_attn.q")
    for factor, shape in (("A", (32, 5120)), ("B", (5120, 32)))
}
BAD = {
    "DoRA": ({f"lora_unet_{Q.replace('.', '_')}.dora_scale": normal("d", 64)}, "is a DoRA (lora_unet_blocks_0_self"),
    "DoRA of PEFT": ({f"base_model.model.{Q}.lora_magnitude_vector": normal("d", 64)}, "is a DoRA (base_model.model.b"),
    "convolutional": ({f"{Q}.lora_mid.weight": normal("m", 2, 2, 3, 3)}, "is a convolutional LoRA (blocks.0.self_attn"),
    "LoHa": (
        {f"diffusion_model.{Q}.hada_w1_a": normal("h", 64, 2)},
        "is a LoHa (diffusion_model.blocks.0.self_attn.q.",
    ),
    "LoKr": (
        {f"diffusion_model.{Q}.lokr_w1": normal("k", 4, 4)},
        "is a LoKr (diffusion_model.blocks.0.self_attn.q.lok",
    ),
    "integers": (
        {f"{Q}.lora_A.weight": np.ones((2, 64), np.int8), f"{Q}.lora_B.weight": np.ones((64, 2), np.int8)},
        f"is quantised ({Q}.lora_A.weight is int8), which is not read in trained files; give it in bfloat16",
    ),
    "scales": (
        PAIR | {f"{Q}.lora_A.scale_weight": np.float32([1])},
        f"is quantised ({Q}.lora_A.scale_weight is float32)",
    ),
    "another architecture": (
        WIDE,
        "is for another model: diffusion_model.blocks.30.self_attn.q.lora_A.weight (and 1 more) has no place in dit; "
        "its layers are 5120 wide (Wan2.1-14B), not 64 wide; give a file for this model",
    ),
    "another width": (
        {name: value for name, value in WIDE.items() if ".0." in name},
        "is for another model: the pair of blocks.0.self_attn.q is for [5120, 5120], the model's is [64, 64]; its "
        "layers are 5120 wide (Wan2.1-14B), not 64 wide",
    ),
    "another program": (
        {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": normal("s", 4, 320)},
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight has no place in dit; its layers are 320 wide",
    ),
    "image to video": (
        {"blocks.0.cross_attn.k_img.lora_A.weight": normal("i", 2, 64)},
        "blocks.0.cross_attn.k_img.lora_A.weight has no place in dit; layers are 64 wide",
    ),
    "a norm's pair": (
        {"blocks.0.norm3.lora_A.weight": normal("n", 2, 64), "blocks.0.norm3.lora_B.weight": normal("n", 64, 2)},
        "the pair of blocks.0.norm3 is for [64, 64], the model's is [64]",
    ),
    "no up": ({f"{Q}.lora_A.weight": normal("a", 2, 64)}, f"{Q} has lora_A but no lora_B (1 such); get the file again"),
    "no down": ({f"{Q}.lora_B.weight": normal("b", 64, 2)}, f"{Q} has lora_B but no lora_A"),
    "alpha alone": (
        PAIR | {"blocks.1.self_attn.q.alpha": np.float32([2])},
        "blocks.1.self_attn.q has an alpha or a bia",
    ),
    "no number": (PAIR | {f"{Q}.alpha": np.float32([np.nan])}, f"{Q}: its alpha: damaged (nan is no alpha)"),
    "many alphas": (PAIR | {f"{Q}.alpha": np.float32([1, 2])}, f"{Q}: its alpha is [2] and no number"),
    "factors": (
        PAIR | {f"{Q}.lora_B.weight": normal("b", 64, 3)},
        f"the factors of {Q} are of ranks 2 and 3",
    ),
    "twice": (
        PAIR | {f"model.{Q}.lora_A.weight": normal("a", 2, 64)},
        f"has {Q} twice, once as model.{Q}.lora_A.weight",
    ),
    "another tensor": ({"other": normal("o", 3)}, "is for another model: other has no place in dit"),
    "another size": (PAIR | {"head.head.bias": normal("o", 3)}, "head.head.bias is [3], the model's is [192]"),
    "another diff": ({f"{Q}.diff": normal("o", 3)}, f"{Q}.weight is [3], the model's is [64, 64]"),
    "only text": ({"lora_te_x.alpha": np.float32([2])}, "has nothing for dit; give another file"),
}


@pytest.mark.parametrize("tensors, message", BAD.values(), ids=BAD)
def test_what_is_not_read_is_told_in_a_line_before_any_word_of_rank(tmp_path, tensors, message):
    path = write(tmp_path / "a.safetensors", tensors)
    with pytest.raises(UserError) as error:
        open_all([TrainedFile(path, rank=2)], DIT, SHAPES)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "header, config, given, message",
    [
        ({"lora_rank": "4", "lora_alpha": "2"}, None, dict(rank=16), "--lora_rank 16: {} has pairs of rank 4 (block"),
        ({"lora_rank": "4", "lora_alpha": "2"}, None, dict(alpha=8), "--lora_alpha 8: {} says 2 (blocks.0"),
        ({"lora_alpha": "two"}, None, {}, "{}: its header: damaged (could not convert string to float: 'two')"),
        ({"lora_adapter_metadata": "[1"}, None, {}, "{}: lora_adapter_metadata in its header: damaged ("),
        ({}, "[]]", {}, "adapter_config.json: damaged ("),
        ({}, '{"lora_alpha": 2, "use_dora": true}', {}, "adapter_config.json: says that the file is a DoRA"),
        ({}, '{"lora_alpha": 2, "alpha_pattern": {"(": 1}}', {}, "adapter_config.json: damaged (missing ), untermin"),
        ({}, '{"lora_alpha": 2}', dict(alpha=8.0), "--lora_alpha 8: {} says 2 (blocks.0."),
    ],
)
def test_a_flag_against_the_file_shows_both_numbers(tmp_path, header, config, given, message):
    dialect = "published" if config is None else "PEFT"
    path = write(tmp_path / "a.safetensors", DIALECTS[dialect](ONE_ALPHA), header)
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(UserError) as error:
        open_all([TrainedFile(path, **given)], DIT, SHAPES)
    assert message.format(path) in str(error.value)


def test_a_flag_may_say_what_the_file_does_not_and_repeat_what_it_does(tmp_path):
    path = write(tmp_path / "a.safetensors", DIALECTS["published"](ONE_ALPHA))
    check(laid_over(TrainedFile(path, rank=4, alpha=2)), ONE_ALPHA.differences())
    assert notice(path, alpha=2).endswith("which count 0.5 times (--lora_alpha)")
    path = write(tmp_path / "a.safetensors", DIALECTS["published"](ONE_ALPHA), {"lora_rank": "4", "lora_alpha": "2"})
    check(laid_over(TrainedFile(path, rank=4, alpha=2)), ONE_ALPHA.differences())


def test_strengths_are_one_a_file():
    assert [file.strength for file in Asked((1.0, 0.8)).files(("a", "b"))] == [1.0, 0.8]
    assert [file.strength for file in Asked().files(("a", "b"))] == [1.0, 1.0]
    with pytest.raises(UserError, match=r"^--lora_strength 1 0.8: 3 files are given; give one number for each$"):
        Asked((1.0, 0.8)).files(("a", "b", "c"))
    with pytest.raises(UserError, match="^--lora_strength nan: give a number$"):
        Asked((float("nan"),))
    with pytest.raises(UserError, match="^--lora_alpha inf: give a number$"):
        Asked(lora_alpha=float("inf"))
    with pytest.raises(UserError, match="^--lora_rank 0: give 1 or more$"):
        Asked(lora_rank=0)


def test_two_files_with_all_pairs_are_refused(tmp_path):
    paths = [
        write(tmp_path / name, DIALECTS["published"](NO_ALPHA), {"lora_pairs": "all"})
        for name in ("a.safetensors", "b.safetensors")
    ]
    with pytest.raises(UserError, match=r"a.safetensors, .*b.safetensors: each holds all pairs of the model; give one"):
        open_all(Asked().files(paths), DIT, SHAPES)
