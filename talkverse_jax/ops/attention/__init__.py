"""Attention behind one signature, on one device or many."""

from talkverse_jax.ops.attention.attention import Attention as Attention
from talkverse_jax.ops.attention.kernel import Segments as Segments
from talkverse_jax.ops.attention.xla import in_query_blocks as in_query_blocks
from talkverse_jax.ops.attention.xla import xla_attention as xla_attention
