"""Our parameters and the names of `models_t5_umt5-xxl-enc-bf16.pth`, of transformers (`UMT5EncoderModel`) and of
llama.cpp, which GGUF files have."""

from talkverse_jax.weights.rule import LINEAR, SAME, Rule, TensorLayout


def _in_block(path: str, published: str, transformers: str, llama: str, layout: TensorLayout = SAME) -> Rule:
    names = (f"blocks.*.{published}", f"encoder.block.*.layer.{transformers}", f"enc.blk.*.{llama}")
    return Rule(f"blocks/*/{path}", tuple(f"{name}.weight" for name in names), layout)


RULES = (
    Rule(
        "token_embedding/embedding",
        ("token_embedding.weight", "shared.weight", "encoder.embed_tokens.weight", "token_embd.weight"),
    ),
    _in_block("norm1/scale", "norm1", "0.layer_norm", "attn_norm"),
    *(
        _in_block(f"attn/{part}/kernel", f"attn.{part}", f"0.SelfAttention.{part}", f"attn_{part}", LINEAR)
        for part in "qkvo"
    ),
    _in_block("norm2/scale", "norm2", "1.layer_norm", "ffn_norm"),
    _in_block("ffn/gate/kernel", "ffn.gate.0", "1.DenseReluDense.wi_0", "ffn_gate", LINEAR),
    _in_block("ffn/fc1/kernel", "ffn.fc1", "1.DenseReluDense.wi_1", "ffn_up", LINEAR),
    _in_block("ffn/fc2/kernel", "ffn.fc2", "1.DenseReluDense.wo", "ffn_down", LINEAR),
    _in_block(
        "pos_embedding/embedding",
        "pos_embedding.embedding",
        "0.SelfAttention.relative_attention_bias",
        "attn_rel_b",
    ),
    Rule("norm/scale", ("norm.weight", "encoder.final_layer_norm.weight", "enc.output_norm.weight")),
)
