"""What the engines compute of logits and labels, in NumPy."""

import numpy as np
from scipy.special import logsumexp


def losses_and_ranks(logits, labels, smoothing):
    """The softmax cross entropy of each image, float64 [N], and the rank of its label among the logits, int [N].

    Of equal logits the first wins, and NaN is never right. A rank of 0 is a hit; below 5, a hit in the top 5.

    Args:
        logits: float [N, classes].
        labels: int [N].
        smoothing: the part of a label's weight that is spread over all classes (Szegedy et al. 2016, arXiv:1512.00567).
    """
    logits = logits.astype(np.float64)
    right = logits[np.arange(len(labels)), labels]
    losses = logsumexp(logits, axis=1) - (1 - smoothing) * right - smoothing * logits.mean(axis=1)
    classes = np.arange(logits.shape[1])
    beaten = (right[:, None] > logits) | ((right[:, None] == logits) & (labels[:, None] <= classes))
    return losses, (~beaten).sum(axis=1)
