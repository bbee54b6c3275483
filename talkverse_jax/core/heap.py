"""The C library's heap, where it is glibc's."""

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # macOS and musl have none


def give_back() -> None:
    """Return memory that is free to the system: glibc keeps what lies below something that is still in use, so
    that many arrays made and dropped in turn take up to twice the memory they need."""
    if _trim is not None:
        _trim(ctypes.c_size_t(0))
