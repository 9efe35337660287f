"""Random changes to training images, in NumPy: crop, flip, cutout and mixup.

Each is a function of given random bits. (Mixup's weights come from SciPy, so another build may round differently.)
"""

import math
from typing import Any

from tandem.core.random import random_integers

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def crop(images: np.ndarray, canvas: np.ndarray, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Copy each of the images, uint8 [B, 3, H, W], to the middle of a canvas, and crop [H, W] from it.

    `canvas`: uint8 [B or more, 3, H + 2 * padding, W + 2 * padding]. Its border has the padding's colour; its middle is
    overwritten. `top`, `left`: int64 [B], the position of the crop on the canvas, 0 .. 2 * padding.
    """
    count, _, height, width = images.shape
    padding = (canvas.shape[2] - height) // 2
    canvas = canvas[:count]
    row = f"V{width}"  # copying a row of pixels as one item is nearly twice as fast as copying its bytes
    canvas[:, :, padding : padding + height, padding : padding + width].view(row)[:] = images.view(row)
    windows = sliding_window_view(canvas, (height, width), axis=(2, 3)).view(row)
    return windows[np.arange(count), :, top, left].view(np.uint8)


def flip(images: np.ndarray, flipped: np.ndarray) -> None:
    """Flip images, uint8 [B, 3, H, W], horizontally and in place where `flipped`, bool [B], is true."""
    # Reversing words and the bytes in them is faster than reversing single bytes.
    words = images.view(f"u{math.gcd(images.shape[3], 8)}")
    words[flipped] = words[flipped].byteswap(inplace=True)[..., ::-1]


def cutout(images: np.ndarray, side: int, row: np.ndarray, column: np.ndarray, fill: np.ndarray) -> None:
    """Fill a square of each of the images, uint8 [B, 3, H, W], in place with the colour `fill`, uint8 [3].

    `side` is in pixels; the edges clip the square. `row` and `column`, int64 [B], are its centre, or if `side` is even
    the pixel below and right of it. DeVries and Taylor, "Improved Regularization of CNNs with Cutout", 2017,
    arXiv:1708.04552.
    """
    color = fill[:, None, None]
    corners = zip((row - side // 2).tolist(), (column - side // 2).tolist(), strict=True)
    for image, (top, left) in zip(images, corners, strict=True):  # twice as fast as a mask for the whole batch
        image[:, max(top, 0) : top + side, max(left, 0) : left + side] = color


def augment(
    images: np.ndarray, canvas: np.ndarray, augmentation: Any, fill: np.ndarray, bits: np.ndarray
) -> np.ndarray:
    """Return images, uint8 [B, 3, H, W], after the crop, flip and cutout that the random `bits`, uint64 [5, B], choose.

    `augmentation` has `crop_padding` (pixels, 0 is off), `flip` (false is off) and `cutout` (side of the square in
    pixels, 0 is off). `fill`, uint8 [3], is the colour of the square. `canvas`: see `crop`. `images` may be
    overwritten.
    """
    _, _, height, width = images.shape
    top, left, flipped, row, column = bits
    if augmentation.crop_padding:
        offsets = 2 * augmentation.crop_padding + 1
        images = crop(images, canvas, random_integers(top, offsets), random_integers(left, offsets))
    if augmentation.flip:
        flip(images, random_integers(flipped, 2) == 1)
    if augmentation.cutout:
        row, column = random_integers(row, height), random_integers(column, width)
        cutout(images, augmentation.cutout, row, column, fill)
    return images


def mixup(alpha: float, bits: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the (permutation, weight) of a mixed batch of B images from random `bits`, uint64 [1 + B].

    Image i becomes weight * image i + (1 - weight) * image permutation[i]. Its loss is the same mean of the losses for
    both labels. Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412, draw one weight a
    batch from Beta(`alpha`, `alpha`). Here it is drawn from the upper half of that: the pairs are symmetric, so the
    mixed images are distributed the same, and an image's own label always has the larger weight. `weight` is a float32
    from 0.5 to 1, so `1 - weight` is exact too.
    """
    from scipy.special import betaincinv

    uniform = int(bits[0] >> np.uint64(11)) / 2**53
    weight = float(np.float32(betaincinv(alpha, alpha, 0.5 + uniform / 2)))
    return np.argsort(bits[1:], kind="stable"), weight
