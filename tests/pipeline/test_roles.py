"""Which options are the picture, the sounds and the prompt."""

from talkverse_jax.core.options import NO_FILE
from talkverse_jax.pipeline.roles import Roles, roles_of


def test_families_tell_it_themselves():
    assert roles_of("talkverse") == Roles("image", "audio", "prompt", several=False)
    assert roles_of("multitalk") == Roles("image", "audio", "prompt", several=True)


def test_sounds():
    assert roles_of("talkverse").sounds(["a.wav"]) == {"audio": "a.wav"} and roles_of("talkverse").people == 1
    assert roles_of("multitalk").sounds([None, "b.wav"]) == {"audio": [NO_FILE, "b.wav"]}
