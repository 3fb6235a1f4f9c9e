"""Which held-out images count as one observation.

Captions of similar images are right and wrong together. A data source may name the groups (`Sample.cluster`): the lab
names its families of near-duplicates, and a file of photos may have a column `cluster`, such as the video of a frame.
Among the other images, near-duplicates form a cluster: the images that are connected by pairs whose vectors, by the
evaluation's retriever, have a cosine above `NEAR_IDENTICAL`, at which mining treats two images as the same picture.

The images of a bag are not joined. The nearest neighbours of neighbours connect a whole data set, so that no clusters
would remain. docs/evaluation.md reports how dependent the images of overlapping bags are.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from rlcap.data.mining import NEAR_IDENTICAL
from rlcap.types import Sample

_BLOCK = 2048
"""Images that are compared with all others at a time."""


def split_clusters(samples: Sequence[Sample], vectors: np.ndarray) -> list[str]:
    """Return the cluster of each of N samples: its own name, or the id of the first of its near-duplicates.

    Where most images would form one cluster, the retriever can't tell the images apart. Then each image is a cluster of
    its own, and a warning says so.

    Args:
        samples: The N samples of a split.
        vectors: (N, D) unit vectors of their images.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    unnamed = [i for i, sample in enumerate(samples) if not sample.cluster]
    clusters = [sample.cluster or sample.id for sample in samples]
    if len(unnamed) < 2:
        return clusters
    own = np.asarray(vectors, np.float32)[unnamed]
    near = [np.nonzero(own[i : i + _BLOCK] @ own.T > NEAR_IDENTICAL) for i in range(0, len(own), _BLOCK)]
    rows = np.concatenate([found + block * _BLOCK for block, (found, _) in enumerate(near)])
    columns = np.concatenate([found for _, found in near])
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(len(own), len(own)))
    _, labels = connected_components(graph, directed=False)
    largest = int(np.bincount(labels).max())
    if len(own) > 3 and 2 * largest > len(own):
        warnings.warn(
            f"the evaluation's retriever finds {largest} of {len(own)} images nearly identical (cosine above "
            f"{NEAR_IDENTICAL}), so it can't tell them apart, and each image counts as independent; set another "
            "evaluation.retriever, or give the images a column `cluster`",
            stacklevel=2,
        )
        return clusters
    first: dict[int, str] = {}
    for i, label in zip(unnamed, labels.tolist(), strict=True):
        clusters[i] = first.setdefault(label, samples[i].id)
    return clusters
