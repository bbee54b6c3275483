"""MultiTalk and InfiniteTalk: Wan2.1-I2V-14B with attention to the sound of each person, the Wan2.1 VAE, UMT5-XXL,
wav2vec2-base and CLIP's visual tower."""

from talkverse_jax.families.multitalk.components import COMPONENTS, MultiTalkConfigs
from talkverse_jax.families.multitalk.inputs import read
from talkverse_jax.families.multitalk.parity import PARITY_CASES
from talkverse_jax.families.multitalk.pipeline import MultiTalkPipeline
from talkverse_jax.families.multitalk.programs import calls, programs, sampling_work
from talkverse_jax.families.multitalk.published import SOURCES, configs_for
from talkverse_jax.families.multitalk.takes import timeline_of
from talkverse_jax.families.multitalk.training import TRAINING
from talkverse_jax.media.buckets import frame_sizes
from talkverse_jax.pipeline.family import Family

FAMILY = Family(
    name="multitalk",
    title="MultiTalk",
    components=COMPONENTS,
    configs_type=MultiTalkConfigs,
    sources=SOURCES,
    load_pipeline=MultiTalkPipeline,
    read=read,
    timeline=timeline_of,
    heads=lambda configs: configs.dit.trunk.num_heads,
    sizes=frame_sizes,
    sampling_work=sampling_work,
    programs=programs,
    calls=calls,
    training=TRAINING,
    parity_cases=PARITY_CASES,
    configs_for=configs_for,
)
