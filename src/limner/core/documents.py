"""Schemas of a run's JSON files: fields, types and bounds. `core.schema` checks them when they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from limner.core.condition import Condition
from limner.core.schema import Amount, Count, Factor, Mismatch, Positive, Range, conform


def _not_empty(value: Any) -> str:
    return "" if value else "not empty"


Name = Annotated[str, _not_empty]
Side = Annotated[int, Range(1, 65_536)]  # pixels
Seed = Annotated[int, Range(0, 2**63 - 1)]

# ---- limner.json -----------------------------------------------------------------------------------------------------


class ConditionSpec(TypedDict):
    """`core.condition.Condition`."""

    kind: Literal["none", "classes", "vector", "tokens"]
    size: Annotated[int, Range(0, 1_000_000)]
    length: Annotated[int, Range(0, 65_536)]


class Spec(TypedDict):
    """`core.images.ImageSpec`."""

    channels: Literal[1, 3, 4]
    height: Side
    width: Side
    condition: ConditionSpec


class Data(TypedDict):
    """The training data."""

    name: str
    origin: str
    count: Count
    spec: Spec
    fit: NotRequired[Literal["crop", "pad", "stretch"]]
    background: NotRequired[str]
    classes: list[str]
    class_counts: NotRequired[list[Count]]
    fingerprint: NotRequired[str]
    attribution: NotRequired[str]


class Recipe(TypedDict):
    """The recipe's name; the recipe's options are further fields."""

    name: Name
    swap: NotRequired[bool]


class TokenizerSpec(TypedDict):
    """`core.tokenizer.Tokenizer`, or `core.wordllama.WordLlama`."""

    kind: Name
    words: Annotated[int, Range(1, 256)]
    vocabulary: NotRequired[Annotated[int, Range(2, 1_000_000)]]  # of hashed words and letters
    word_tokens: NotRequired[Annotated[int, Range(1, 64)]]
    vectors: NotRequired[Name]  # SHA-256 of the files of frozen vectors
    pieces: NotRequired[Name]


class Network(TypedDict):
    """The description from which the published network is rebuilt."""

    name: Name
    architecture: Name
    config: dict[str, bool | int | float | str | None]
    noise: NotRequired[str]
    tokenizer: NotRequired[TokenizerSpec]  # of a text-to-image generator
    captions: NotRequired[Annotated[list[str], _not_empty]]  # of the preview of a text-to-image generator
    paired: NotRequired[bool]  # whether translators learned from pairs
    directions: NotRequired[list[Literal["a2b", "b2a"]]]
    scale: NotRequired[Annotated[int, Range(1, 8)]]  # of a restorer: output pixels per input pixel along a side
    task: NotRequired[Name]  # of a restorer
    degradation: NotRequired[str]  # that a restorer was trained on, for people
    period: NotRequired[Annotated[float, Range(1e-3, 1e6)]]  # seconds of one period of a generator of clips


class Training(TypedDict):
    """Progress of the run, and the machine it ran on."""

    images: Count
    budget: Positive
    batch: NotRequired[Positive]
    seconds: Amount
    seed: Seed
    machine: str
    torch: NotRequired[str]
    started: NotRequired[str]
    doctor: NotRequired[bool]
    held_out_count: NotRequired[Count]
    auto_tune: NotRequired[bool]
    settings: NotRequired[dict[str, Factor]]


PARENTS = 100  # most ancestors of a run that are named


class Parent(TypedDict):
    """A run whose networks another began with."""

    name: str
    recipe: Name
    images: Count
    sha256: Name
    origin: str
    license: str | None
    adapt: Name


class Copies(TypedDict):
    """The test for memorization, as `evaluation.memorization` describes its figures."""

    samples: Positive
    closer: float
    suspects: float
    z: float
    verdict: str


class Description(TypedDict):
    """`limner.json`."""

    format: int
    limner: str
    kind: Name
    recipe: Recipe
    data: Data
    network: Network
    training: Training
    metrics: dict[str, float]  # NaN where a metric could not be computed
    parents: NotRequired[list[Parent]]  # the runs it began with, the nearest first
    copies: NotRequired[Copies]
    license: str | None


def check_description(document: Any) -> Any:
    """Validate a `limner.json` and return it. Raises Mismatch for the first invalid or inconsistent field."""
    conform(document, Description)
    data = document["data"]
    condition, names, counts = data["spec"]["condition"], data["classes"], data.get("class_counts", [])
    try:
        Condition(condition["kind"], condition["size"], condition["length"])
    except ValueError as error:
        raise Mismatch(f"'data.spec.condition' contradicts itself: {str(error).rstrip('.')}") from error
    classes = condition["size"] if condition["kind"] == "classes" else 0
    if classes and len(names) != classes:
        raise Mismatch(f"'data.classes' must name {classes:,} classes, as 'data.spec.condition' says, not {len(names):,}")
    if counts and (len(counts) != classes or not sum(counts)):
        raise Mismatch(f"'data.class_counts' must count the pictures of {classes:,} classes")
    return document


# ---- run.json --------------------------------------------------------------------------------------------------------


class Revision(TypedDict):
    """A change of the budget: after `at` images seen, the budget is `images`."""

    at: Count
    images: Positive
    seconds: float
    until: float | None


class Start(TypedDict):
    """The start of a run from another. frozen: names of the parameters that are not trained."""

    parents: list[Parent]
    frozen: list[str]
    trial: NotRequired[dict[str, Any]]


class Decided(TypedDict):
    """The decisions of a run's first start."""

    images: Positive
    images_per_second: Annotated[float, Range(1e-9)]
    costs: Annotated[list[Amount], _not_empty]  # seconds per image, in equal parts of the run
    besides: float  # seconds of the run spent outside training
    seconds: float | None  # training time of a budget given in minutes
    threads: Annotated[int, Range(1, 4096)]
    ranks: Annotated[int, Range(1)]  # processes
    average_every: Annotated[int, Range(0, 1000)]  # iterations between averages of the ranks; 0: none
    revisions: NotRequired[list[Revision]]
    transfer: NotRequired[Start]
    precision: Literal["bf16", "fp32"]
    started: str


class Decisions(TypedDict):
    """`run.json`."""

    limner: str
    request: dict[str, Any]
    decided: Decided


# ---- log.jsonl -------------------------------------------------------------------------------------------------------


class Finding(TypedDict):
    """A finding of the doctor."""

    finding: str
    message: str
    advice: str
    action: str


class Entry(TypedDict):
    """A line of `log.jsonl`; all other fields are numbers by name."""

    images: Count
    seconds: NotRequired[Amount]
    doctor: NotRequired[Finding]


def check_entry(entry: Any) -> Any:
    """Validate a log entry and return it. Raises Mismatch for the first invalid field."""
    conform(entry, Entry)
    conform({name: value for name, value in entry.items() if name != "doctor"}, dict[str, float])
    return entry


# ---- checkpoints -----------------------------------------------------------------------------------------------------


class Scalars(TypedDict):
    """The scalars of a checkpoint."""

    seen: Count
    seconds: Amount
    lr_scale: dict[str, Amount]
    nonfinite_count: Count
    grad_stats: dict[str, float]
    levers: dict[str, Factor]
    memory: dict[str, dict[str, Any]]


class DoctorState(TypedDict, total=False):
    """The doctor's state between two checks."""

    signals: list[dict[str, float]]
    last_found: dict[str, Count]
    last_adjusted: Count
