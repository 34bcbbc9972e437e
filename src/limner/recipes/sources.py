"""Loading of the pictures of a family."""

from __future__ import annotations

from limner.data import Dataset, open_source, prepare
from limner.data.decode import Progress
from limner.data.request import DataRequest


def load_single_set(request: DataRequest, progress: Progress | None = None, partial: bool = False) -> Dataset:
    """Return one set of pictures, with its classes unless they are ignored. partial: keep pictures without a class.

    Raises ValueError for options of two sets, and for data that cannot be read.
    """
    request.refuse(("halves",), "to a recipe that does not translate")
    if request.second is not None:
        raise ValueError("This recipe is trained on one set of pictures: give one, or a recipe that translates.")
    if request.unconditional and request.labels:
        raise ValueError("--labels gives the classes and --unconditional ignores them: leave one out.")
    labels = False if request.unconditional else request.labels or True
    source = open_source(request.data, labels, request.classes_from, partial=partial)
    return prepare(source, drop_duplicates=request.drop_duplicates, progress=progress, **request.shape())
