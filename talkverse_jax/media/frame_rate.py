"""The frame rate of everything: videos that are made, training windows, rows of sound features."""

FPS = 25  # frames a second
