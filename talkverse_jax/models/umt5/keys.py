"""Our parameters and the names of `models_t5_umt5-xxl-enc-bf16.pth`."""

from talkverse_jax.weights.rule import LINEAR, Rule

RULES = (
    Rule("token_embedding/embedding", "token_embedding.weight"),
    Rule("blocks/*/norm1/scale", "blocks.*.norm1.weight"),
    Rule("blocks/*/attn/q/kernel", "blocks.*.attn.q.weight", LINEAR),
    Rule("blocks/*/attn/k/kernel", "blocks.*.attn.k.weight", LINEAR),
    Rule("blocks/*/attn/v/kernel", "blocks.*.attn.v.weight", LINEAR),
    Rule("blocks/*/attn/o/kernel", "blocks.*.attn.o.weight", LINEAR),
    Rule("blocks/*/norm2/scale", "blocks.*.norm2.weight"),
    Rule("blocks/*/ffn/gate/kernel", "blocks.*.ffn.gate.0.weight", LINEAR),
    Rule("blocks/*/ffn/fc1/kernel", "blocks.*.ffn.fc1.weight", LINEAR),
    Rule("blocks/*/ffn/fc2/kernel", "blocks.*.ffn.fc2.weight", LINEAR),
    Rule("blocks/*/pos_embedding/embedding", "blocks.*.pos_embedding.embedding.weight"),
    Rule("norm/scale", "norm.weight"),
)
