"""TalkVerse-5B: Wan2.2-TI2V-5B with an audio adapter and FramePack, the Wan2.2 VAE, UMT5-XXL and wav2vec2-large."""

from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.families.talkverse.inputs import read
from talkverse_jax.families.talkverse.parity import PARITY_CASES
from talkverse_jax.families.talkverse.pipeline import TalkVersePipeline
from talkverse_jax.families.talkverse.programs import calls, programs, sampling_work
from talkverse_jax.families.talkverse.published import SOURCES
from talkverse_jax.families.talkverse.timeline import timeline_of
from talkverse_jax.families.talkverse.training import TRAINING
from talkverse_jax.media.buckets import frame_sizes
from talkverse_jax.pipeline.family import Family

FAMILY = Family(
    name="talkverse",
    title="TalkVerse-5B",
    components=COMPONENTS,
    configs_type=ModelConfigs,
    sources=SOURCES,
    load_pipeline=TalkVersePipeline,
    read=read,
    timeline=timeline_of,
    heads=lambda configs: configs.dit.trunk.num_heads,
    sizes=lambda settings: frame_sizes(settings, settings.fit == "exact"),
    sampling_work=sampling_work,
    programs=programs,
    calls=calls,
    training=TRAINING,
    parity_cases=PARITY_CASES,
)
