"""Random changes to training images, in NumPy: crop, flip, cutout and mixup.

Each is a function of given random bits. (Mixup's weights come from SciPy; another build may round otherwise.)
"""

import math
from typing import Any

from tandem.core.random import random_integers

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def crop(images: np.ndarray, canvas: np.ndarray, top: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Lay images uint8 [B, 3, H, W] on the middle of a canvas each, and cut [H, W] out of it.

    `canvas`: uint8 [B or more, 3, H + 2 * padding, W + 2 * padding], whose border has the padding's colour
    and whose middle is overwritten. `top`, `left`: int64 [B], the window's place on it, 0 .. 2 * padding.
    """
    count, _, height, width = images.shape
    padding = (canvas.shape[2] - height) // 2
    canvas = canvas[:count]
    row = f"V{width}"  # moving a row of pixels as one item is nearly twice as fast as moving its bytes
    canvas[:, :, padding : padding + height, padding : padding + width].view(row)[:] = images.view(row)
    windows = sliding_window_view(canvas, (height, width), axis=(2, 3)).view(row)
    return windows[np.arange(count), :, top, left].view(np.uint8)


def flip(images: np.ndarray, flipped: np.ndarray) -> None:
    """Mirror in place, left to right, images of uint8 [B, 3, H, W] where `flipped`, bool [B], is true."""
    # Reversing words, and the bytes in them, is faster than reversing single bytes.
    words = images.view(f"u{math.gcd(images.shape[3], 8)}")
    words[flipped] = words[flipped].byteswap(inplace=True)[..., ::-1]


def cutout(images: np.ndarray, side: int, row: np.ndarray, column: np.ndarray, fill: np.ndarray) -> None:
    """Paint in place a square of colour `fill`, uint8 [3], on each of uint8 [B, 3, H, W], clipped at edges.

    `side` is in pixels; `row` and `column`, int64 [B], are its centre, or if `side` is even the pixel below
    and right of it. DeVries and Taylor, "Improved Regularization of CNNs with Cutout", 2017,
    arXiv:1708.04552.
    """
    color = fill[:, None, None]
    corners = zip((row - side // 2).tolist(), (column - side // 2).tolist(), strict=True)
    for image, (top, left) in zip(images, corners, strict=True):  # twice as fast as one mask for the batch
        image[:, max(top, 0) : top + side, max(left, 0) : left + side] = color


def augment(
    images: np.ndarray, canvas: np.ndarray, augmentation: Any, fill: np.ndarray, bits: np.ndarray
) -> np.ndarray:
    """Return images uint8 [B, 3, H, W] cropped, flipped and cut out as `bits`, uint64 [5, B], would have it.

    `augmentation` has `crop_padding` (pixels, 0 is off), `flip` (false is off) and `cutout` (side of the hole in
    pixels, 0 is off). `fill`, uint8 [3], is the colour of the hole. `canvas`: see `crop`. `images` may be
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

    Image i becomes weight * image i + (1 - weight) * image permutation[i], and its loss the same mean of the losses
    for both labels. Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412: the weight,
    one a batch, is drawn from Beta(`alpha`, `alpha`). Here from its upper half: of a pair either may be called the
    first, so batches are distributed alike, and an image's own label is always its heavier one. `weight` is a
    float32, from 0.5 to 1, so that `1 - weight` is exact, too.
    """
    from scipy.special import betaincinv

    uniform = int(bits[0] >> np.uint64(11)) / 2**53
    weight = float(np.float32(betaincinv(alpha, alpha, 0.5 + uniform / 2)))
    return np.argsort(bits[1:], kind="stable"), weight
