"""TalkVerse-5B in JAX: a picture, a sound and a prompt become a talking video of any length."""

__version__ = "0.1.0"
