"""Our parameters and the names of Hugging Face's Wav2Vec2ForCTC and Wav2Vec2ForPreTraining; a bare Wav2Vec2Model's lack
what they begin with."""

from talkverse_jax.weights.rule import CONV1D, LINEAR, SAME, Rule, TensorLayout

_PREFIX = "wav2vec2."
# The CTC head, and the vector that stands for masked sound in training.
IGNORED = ("lm_head.*", "*masked_spec_embed")
# What learns from masked sound.
IGNORED_BASE = ("quantizer.*", "project_*", "*masked_spec_embed")

_EXTRACTOR = "feature_extractor.conv_layers.*"
_PROJECTION = "feature_projection"
_POSITIONS = "encoder.pos_conv_embed.conv"
_LAYER = "encoder.layers.*"


def _rule(path: str, *names: str, layout: TensorLayout = SAME) -> Rule:
    return Rule(path, (*(_PREFIX + name for name in names), *names), layout)


def _norm(path: str, name: str) -> tuple[Rule, Rule]:
    return _rule(f"{path}/scale", f"{name}.weight"), _rule(f"{path}/bias", f"{name}.bias")


def _linear(path: str, name: str) -> tuple[Rule, Rule]:
    return _rule(f"{path}/kernel", f"{name}.weight", layout=LINEAR), _rule(f"{path}/bias", f"{name}.bias")


RULES = (
    _rule("feature_extractor/conv_layers/*/conv/kernel", f"{_EXTRACTOR}.conv.weight", layout=CONV1D),
    _rule("feature_extractor/conv_layers/*/conv/bias", f"{_EXTRACTOR}.conv.bias"),
    *_norm("feature_extractor/conv_layers/*/layer_norm", f"{_EXTRACTOR}.layer_norm"),
    *_norm("feature_projection/layer_norm", f"{_PROJECTION}.layer_norm"),
    *_linear("feature_projection/projection", f"{_PROJECTION}.projection"),
    # Weight norm has two spellings: PyTorch's since 2.0, and the one before.
    _rule(
        "encoder/pos_conv_embed/conv/weight_g",
        f"{_POSITIONS}.parametrizations.weight.original0",
        f"{_POSITIONS}.weight_g",
        layout=CONV1D,
    ),
    _rule(
        "encoder/pos_conv_embed/conv/weight_v",
        f"{_POSITIONS}.parametrizations.weight.original1",
        f"{_POSITIONS}.weight_v",
        layout=CONV1D,
    ),
    _rule("encoder/pos_conv_embed/conv/bias", f"{_POSITIONS}.bias"),
    *_norm("encoder/layers/*/layer_norm", f"{_LAYER}.layer_norm"),
    *_linear("encoder/layers/*/attention/q_proj", f"{_LAYER}.attention.q_proj"),
    *_linear("encoder/layers/*/attention/k_proj", f"{_LAYER}.attention.k_proj"),
    *_linear("encoder/layers/*/attention/v_proj", f"{_LAYER}.attention.v_proj"),
    *_linear("encoder/layers/*/attention/out_proj", f"{_LAYER}.attention.out_proj"),
    *_norm("encoder/layers/*/final_layer_norm", f"{_LAYER}.final_layer_norm"),
    *_linear("encoder/layers/*/feed_forward/intermediate_dense", f"{_LAYER}.feed_forward.intermediate_dense"),
    *_linear("encoder/layers/*/feed_forward/output_dense", f"{_LAYER}.feed_forward.output_dense"),
    *_norm("encoder/layer_norm", "encoder.layer_norm"),
)
