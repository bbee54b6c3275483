"""MultiTalk's parameters and their names in the published PyTorch files (1633 of them at full size)."""

from talkverse_jax.models.wan.keys import IMAGE, TRUNK
from talkverse_jax.weights.rule import Rule, linear, norm

RULES: tuple[Rule, ...] = (
    *TRUNK,
    *IMAGE,
    *norm("blocks/*/norm_x", "blocks.*.norm_x"),
    *linear("blocks/*/audio_cross_attn/q", "blocks.*.audio_cross_attn.q_linear"),
    *linear("blocks/*/audio_cross_attn/kv", "blocks.*.audio_cross_attn.kv_linear"),
    *linear("blocks/*/audio_cross_attn/o", "blocks.*.audio_cross_attn.proj"),
    *linear("audio_projector/first", "audio_proj.proj1"),
    *linear("audio_projector/later", "audio_proj.proj1_vf"),
    *linear("audio_projector/middle", "audio_proj.proj2"),
    *linear("audio_projector/last", "audio_proj.proj3"),
    *norm("audio_projector/norm", "audio_proj.norm"),
)
