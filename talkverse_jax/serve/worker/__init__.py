"""The process that has the models and makes the videos, and the other side of its pipes."""
