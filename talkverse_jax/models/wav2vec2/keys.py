"""Our parameters and the names of Hugging Face's Wav2Vec2ForCTC."""

from talkverse_jax.weights.rule import CONV1D, Rule, linear

# The CTC head, and the vector that stands for masked sound in training.
IGNORED = ("lm_head.*", "wav2vec2.masked_spec_embed")

_EXTRACTOR = "wav2vec2.feature_extractor.conv_layers.*"
_PROJECTION = "wav2vec2.feature_projection"
_POSITIONS = "wav2vec2.encoder.pos_conv_embed.conv"
_LAYER = "wav2vec2.encoder.layers.*"


def _norm(path: str, name: str) -> tuple[Rule, Rule]:
    return Rule(f"{path}/scale", f"{name}.weight"), Rule(f"{path}/bias", f"{name}.bias")


RULES = (
    Rule("feature_extractor/conv_layers/*/conv/kernel", f"{_EXTRACTOR}.conv.weight", CONV1D),
    Rule("feature_extractor/conv_layers/*/conv/bias", f"{_EXTRACTOR}.conv.bias"),
    *_norm("feature_extractor/conv_layers/*/layer_norm", f"{_EXTRACTOR}.layer_norm"),
    *_norm("feature_projection/layer_norm", f"{_PROJECTION}.layer_norm"),
    *linear("feature_projection/projection", f"{_PROJECTION}.projection"),
    # Weight norm has two spellings: PyTorch's since 2.0, and the one before.
    Rule(
        "encoder/pos_conv_embed/conv/weight_g",
        (f"{_POSITIONS}.parametrizations.weight.original0", f"{_POSITIONS}.weight_g"),
        CONV1D,
    ),
    Rule(
        "encoder/pos_conv_embed/conv/weight_v",
        (f"{_POSITIONS}.parametrizations.weight.original1", f"{_POSITIONS}.weight_v"),
        CONV1D,
    ),
    Rule("encoder/pos_conv_embed/conv/bias", f"{_POSITIONS}.bias"),
    *_norm("encoder/layers/*/layer_norm", f"{_LAYER}.layer_norm"),
    *linear("encoder/layers/*/attention/q_proj", f"{_LAYER}.attention.q_proj"),
    *linear("encoder/layers/*/attention/k_proj", f"{_LAYER}.attention.k_proj"),
    *linear("encoder/layers/*/attention/v_proj", f"{_LAYER}.attention.v_proj"),
    *linear("encoder/layers/*/attention/out_proj", f"{_LAYER}.attention.out_proj"),
    *_norm("encoder/layers/*/final_layer_norm", f"{_LAYER}.final_layer_norm"),
    *linear("encoder/layers/*/feed_forward/intermediate_dense", f"{_LAYER}.feed_forward.intermediate_dense"),
    *linear("encoder/layers/*/feed_forward/output_dense", f"{_LAYER}.feed_forward.output_dense"),
    *_norm("encoder/layer_norm", "wav2vec2.encoder.layer_norm"),
)
