"""Loading of the pictures of a family."""

from __future__ import annotations

from torch import Tensor

from limner.core.text import counted
from limner.data import Dataset, Source, open_source, prepare
from limner.data.crops import Crops
from limner.data.decode import Progress
from limner.data.native import Native, prepare_native
from limner.data.request import DataRequest


def load_single_set(request: DataRequest, progress: Progress | None = None, partial: bool = False) -> Dataset:
    """Return one set of pictures, with its classes unless they are ignored. partial: keep pictures without a class.

    Raises ValueError for options of two sets, and for data that cannot be read.
    """
    request.refuse(("halves",), "to a recipe that does not translate")
    request.refuse(("captions",), "to a recipe without texts")
    refuse_second(request)
    if request.unconditional and request.labels:
        raise ValueError("--labels gives the classes and --unconditional ignores them: leave one out.")
    labels = False if request.unconditional else request.labels or True
    source = open_source(request.data, labels, request.classes_from, partial=partial)
    return prepare(source, drop_duplicates=request.drop_duplicates, progress=progress, **request.shape())


def load_native(request: DataRequest, progress: Progress | None = None) -> tuple[Source, Native]:
    """Return one set of pictures without classes, for crops, and the same decoded at their own sizes.

    Raises ValueError for options without a meaning for crops, and for data that cannot be read.
    """
    meaningless = ("labels", "captions", "classes_from", "unconditional", "halves", "fit", "drop_duplicates")
    request.refuse(meaningless, "to a recipe that is trained on crops of pictures")
    refuse_second(request)
    source = open_source(request.data, labels=False)
    return source, prepare_native(source, channels=request.channels, background=request.background, progress=progress)


def refuse_second(request: DataRequest) -> None:
    """Raise ValueError for a second set of pictures."""
    if request.second is not None:
        raise ValueError("This recipe is trained on one set of pictures: give one, or a recipe that translates.")


class CroppedPictures:
    """Pictures at their own sizes and crops of them; with the protocol `runs.experiment.TrainingSet`. note: added to the notes."""

    def __init__(self, pictures: Native, crops: Crops, note: str | None = None) -> None:
        self.crops, self.spec = crops, crops.spec
        self.name, self.origin, self.fingerprint = pictures.name, pictures.origin, pictures.fingerprint
        self.attribution, self.background, self.fit = pictures.attribution, pictures.background, "crop"
        self.labels: Tensor | None = None
        self.classes: tuple[str, ...] = ()
        self.bad = [*pictures.bad, *crops.bad]
        height, width = crops.spec.size
        small = counted(len(crops.bad), "picture is", "pictures are")
        left_out = f"; {small} smaller and left out" if crops.bad else ""
        self.notes = [*pictures.notes, f"Crops of {height}x{width} are trained on{left_out}; --size chooses another size."]
        self.notes += [note] if note else []

    def __len__(self) -> int:
        return len(self.crops)
