"""More like these: a direction from a few marked pictures of a generator.

Linear discriminant analysis (Fisher 1936) between the marked codes and all codes, within the most effective axes: eight pictures
cannot estimate a covariance, so the marked ones' is shrunk toward that of all codes by the intensity of Ledoit & Wolf 2004, "A
well-conditioned estimator for large-dimensional covariance matrices", eq. 14.
"""

from __future__ import annotations

import numpy as np

AXES = 20    # directions of the closed form within which the marked pictures are separated
FEWEST = 2


def discriminant(marked: np.ndarray, codes: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Return the direction from all codes toward the marked ones, float64 [D].

    marked: codes [M,D] of the marked pictures. codes: of samples [N,D]. axes: orthonormal rows [k,D]. Raises ValueError for
    fewer than two marked pictures.
    """
    if len(marked) < FEWEST:
        raise ValueError("Mark at least 2 pictures, better 8: what they have in common cannot be seen in one.")
    a, b = marked.astype(np.float64) @ axes.T, codes.astype(np.float64) @ axes.T  # [M,k], [N,k]
    everywhere = np.cov(b, rowvar=False).reshape(len(axes), len(axes))
    within = shrunk(a - a.mean(0), everywhere)
    return np.asarray(np.linalg.solve(within, a.mean(0) - b.mean(0)) @ axes)


def shrunk(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the covariance of centered rows [M,k], moved toward a target [k,k] as far as its own sampling error asks for."""
    m = len(rows)
    own = rows.T @ rows / m
    error = np.square(np.einsum("mi,mj->mij", rows, rows) - own).sum() / m**2
    distance = np.square(own - target).sum()
    share = min(1.0, error / max(distance, 1e-12))
    return np.asarray((1 - share) * own + share * target)
