"""TalkVerse-5B: Wan2.2-TI2V-5B with an audio adapter and FramePack, the Wan2.2 VAE, UMT5-XXL and wav2vec2-large."""

from talkverse_jax.families.talkverse.components import COMPONENTS, ModelConfigs
from talkverse_jax.families.talkverse.inputs import read
from talkverse_jax.families.talkverse.pipeline import TalkVersePipeline
from talkverse_jax.pipeline.family import Family

FAMILY = Family(
    name="talkverse",
    title="TalkVerse-5B",
    components=COMPONENTS,
    configs_type=ModelConfigs,
    load_pipeline=TalkVersePipeline,
    read=read,
)
