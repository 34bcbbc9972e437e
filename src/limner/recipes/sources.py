"""How the families read their pictures."""

from __future__ import annotations

from limner.data import Dataset, open_source, prepare
from limner.data.decode import Progress
from limner.data.request import DataRequest


def one_set(request: DataRequest, progress: Progress | None = None) -> Dataset:
    """One set of pictures, with its classes unless they are to be ignored.

    Raises ValueError for options that are for two sets, and for what cannot be read.
    """
    request.refuse(("halves",), "to a recipe that does not translate")
    if request.second is not None:
        raise ValueError("This recipe learns from one set of pictures: give one, or a recipe that translates.")
    if request.unconditional and request.labels:
        raise ValueError("--labels says which classes there are and --unconditional ignores them: leave one out.")
    labels = False if request.unconditional else request.labels or True
    source = open_source(request.data, labels, request.classes_from)
    return prepare(source, drop_duplicates=request.drop_duplicates, progress=progress, **request.shape())
