"""Nodes of ComfyUI: a talking video, made by a talkverse_jax server."""

from .node import TalkVerseVideo

NODE_CLASS_MAPPINGS = {"TalkVerseVideo": TalkVerseVideo}
NODE_DISPLAY_NAME_MAPPINGS = {"TalkVerseVideo": "Talking Video (talkverse_jax server)"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
