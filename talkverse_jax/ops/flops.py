"""The floating-point operations of layers, from their sizes; a multiply-add is two."""


def linear(rows: int, *widths: int) -> int:
    """Linear layers of these widths, one after the other."""
    return sum(2 * rows * a * b for a, b in zip(widths, widths[1:]))


def attention(queries: int, keys: int, width: int) -> int:
    """Scores and their product with the values, all heads together `width` channels."""
    return 4 * queries * keys * width


def convolution(frames: int, h: int, w: int, in_dim: int, out_dim: int, taps: int, size: int = 3) -> int:
    """A convolution of `taps` frames by `size` x `size` pixels that keeps rows and columns.

    It counts the products with pixels, not those with the zeros around them.
    """
    edge = size // 2 * (size // 2 + 1)  # products of an axis that meet zeros
    return 2 * frames * taps * (size * h - edge) * (size * w - edge) * in_dim * out_dim
