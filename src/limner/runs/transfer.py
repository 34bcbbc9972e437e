"""A run that begins with the networks of another: reading them, mapping them, and a short trial against a start from nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from torch import Tensor

from limner.core import artifact, checkpoint, distributed
from limner.core.documents import PARENTS
from limner.core.files import open_regular
from limner.core.images import ImageSpec
from limner.core.machine import Machine
from limner.core.schema import Mismatch
from limner.core.text import counted
from limner.networks.adapt import frozen
from limner.networks.transfer import Change, take_over
from limner.runs.decide import MINUTES, plan_of, stream_of
from limner.runs.experiment import Experiment
from limner.runs.options import Options
from limner.training.state import State
from limner.training.trial import train_briefly

Tensors = Mapping[str, Tensor]
TRIAL_SHARE = 0.03  # of the budget, for each side of the trial
MIN_TRIAL = 1_000  # images of a trial; fewer say nothing
MIN_BUDGET = 5_000  # images of a run with a trial
NOISE = 0.05  # relative difference of two trials that says nothing
FAR = 0.16  # share of an untrained network's Fréchet distance above which a parent is far: between the pairs of benchmarks/transfer.py
MAX_NAMED = 6  # names in a sentence


@dataclass(frozen=True)
class Parent:
    """A trained run whose networks another begins with. nets, averages: name -> its tensors."""

    folder: Path
    description: Mapping[str, Any]  # `limner.json`
    sha256: str  # of the published weights
    nets: Mapping[str, Tensors]
    averages: Mapping[str, Tensors]


@dataclass(frozen=True)
class Transfer:
    """The start of a run from a parent.

    averages: network -> the first state of its average. scratch: network -> its state without the parent. record: for
    `run.json` and `limner.json`. notes: sentences for people.
    """

    averages: Mapping[str, Tensors]
    scratch: Mapping[str, Tensors]
    record: dict[str, Any]
    notes: list[str]


def read_parent(folder: Path) -> Parent:
    """Read a run for a transfer: its last checkpoint, or only the published network if it has none; `best/` gives that network, and
    the others of its run. Raises ValueError for a folder that is no trained run, or a damaged one."""
    description = artifact.read_description(folder)
    network, path = description["network"]["name"], folder / artifact.WEIGHTS
    try:
        open_regular(path).close()
        with safe_open(path, "pt") as file:
            published = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            stored = (file.metadata() or {}).get("sha256")
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no {artifact.WEIGHTS}: the run was stopped before its first checkpoint.") from error
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or changed: copy it again, or start from another run.") from error
    if stored != artifact.content_hash(published) or not all(t.isfinite().all() for t in published.values()):
        raise ValueError(f"{path} is damaged (its content does not fit its SHA-256): copy it again, or start from another run.")
    own = {key.removeprefix(f"{network}."): tensor for key, tensor in published.items()}
    found = _checkpoint(checkpoint.run_of(folder))
    nets, averages = _by_net(found, "net."), _by_net(found, "average.")
    if folder.name == "best" or network not in nets:
        nets[network] = averages[network] = own
    return Parent(folder, description, stored, nets, averages)


def _checkpoint(run: Path) -> Tensors:
    """Return the tensors of the networks and averages of the newest readable checkpoint; empty if there is none."""

    def read(file: Any) -> Tensors:
        found = {key: file.get_tensor(key) for key in file.keys() if key.startswith(("net.", "average."))}  # noqa: SIM118 - not a dict
        if not all(tensor.isfinite().all() for tensor in found.values()):
            raise Mismatch("values are not finite")
        return found

    return checkpoint.newest(run / "checkpoint", read, (checkpoint.LATEST, checkpoint.PREVIOUS))[0] or {}


def _by_net(tensors: Tensors, prefix: str) -> dict[str, Tensors]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(prefix):
            net, _, name = key.removeprefix(prefix).partition(".")
            found.setdefault(net, {})[name] = tensor
    return dict(found)


# ---- the start ---------------------------------------------------------------------------------------------------------


def transfer(experiment: Experiment, parent: Parent, adapt: str) -> Transfer:
    """Load the parent's networks into those of the experiment, in place, as far as they fit.

    Raises ValueError for a parent of another kind or architecture, and for an adaptation that the networks do not have.
    """
    before, method = parent.description, experiment.method
    _check_kind(experiment, parent)
    spec = ImageSpec.from_json(before["data"]["spec"])
    now = experiment.data
    names = tuple(before["data"]["classes"]) if spec.classes else (), now.classes if now.spec.classes else ()
    if before["network"]["config"].get("vectors") or any(getattr(net, "vectors", None) is not None for net in method.nets.values()):
        names = (), ()  # of groups, which have vectors of their own in place of a name
    change = Change((spec.channels, now.spec.channels), names)
    scratch = {name: _copies(net.state_dict()) for name, net in method.nets.items()}
    averages: dict[str, Tensors] = {}
    for name in method.averaged:
        take_over(method.nets[name], parent.averages.get(name, {}), change)
        averages[name] = _copies(method.nets[name].state_dict())
        method.nets[name].load_state_dict(scratch[name])
    new: list[str] = []
    shares = []
    for name, net in method.nets.items():
        taken = take_over(net, parent.nets.get(name, {}), change)
        new += [f"{name}.{key}" for key in taken.new]
        shares.append(f"{name} {taken.taken / max(1, taken.parameters):.0%}" + ("" if taken.taken else " (anew)"))
    kept = frozen(adapt, dict(method.nets), now.spec, new)
    entry = {
        "name": before["data"]["name"],
        "recipe": before["recipe"]["name"],
        "images": before["training"]["images"],
        "sha256": parent.sha256,
        "origin": before["data"]["origin"],
        "license": before["license"],
        "adapt": adapt,
    }
    record = {"parents": [entry, *before.get("parents", [])][:PARENTS], "frozen": kept}
    start = (
        f"Starts from {entry['name']} ({entry['recipe']}, {entry['images']:,} images seen, SHA-256 {parent.sha256[:12]}); parameters "
        f"taken over: {', '.join(shares)}. The optimizers start anew."
    )
    return Transfer(averages, scratch, record, [start, *_differences(spec, now.spec, change, new), *_kept_sentence(kept, experiment)])


def _check_kind(experiment: Experiment, parent: Parent) -> None:
    before, product = parent.description, experiment.product
    if before["kind"] != product.kind:
        raise ValueError(
            f"{parent.folder} holds a trained {before['kind']}, and the recipe {experiment.name} trains another kind, "
            f"{'an' if product.kind[0] in 'aeiou' else 'a'} {product.kind}: leave --recipe out, or start from another run."
        )
    had, has = before["network"]["architecture"], product.description["architecture"]
    if had != has:
        raise ValueError(
            f"{parent.folder} holds networks of the architecture {had}, and this run has {has}: leave --recipe and --architecture out, "
            "or start from another run."
        )


def _copies(tensors: Tensors) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _differences(before: ImageSpec, now: ImageSpec, change: Change, new: list[str]) -> list[str]:
    """Return a sentence for each difference between the pictures of the parent and of the run."""
    found = []
    if before.channels != now.channels:
        names = {1: "gray", 3: "RGB", 4: "RGBA"}
        found.append(
            f"Channels: {names[before.channels]} before, {names[now.channels]} now; the first and last layers are "
            f"{'repeated over the colors' if before.channels == 1 else 'averaged over the colors' if now.channels == 1 else 'taken over for the colors'}."
        )
    if before.size != now.size:
        sizes = [f"{s.height}x{s.width}" for s in (before, now)]
        found.append(f"Size: {sizes[0]} before, {sizes[1]} now; layers of equal shape are taken over.")
    had, has = change.classes
    if has and had and had != has:
        matched = [name for name, old in zip(has, change.classes_match, strict=True) if old is not None]
        others = [name for name in has if name not in matched]
        text = f"Classes: {len(matched)} of {len(has)} have the parent's names"
        if others:
            text += f"; {_some(others)} {'start' if len(others) > 1 else 'starts'} at the mean of its {counted(len(had), 'class', 'classes')}"
        found.append(f"{text}.")
    elif bool(has) != bool(had):
        found.append(f"Classes: {'none' if has else len(had)} before, {len(has) if has else 'none'} now; what depends on them starts alike for all.")
    if before.condition.kind != now.condition.kind and "classes" not in {before.condition.kind, now.condition.kind}:
        found.append(f"Condition: {before.condition} before, {now.condition} now.")
    if new:
        found.append(f"New: {_some(new)}.")
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else "")


def _kept_sentence(kept: list[str], experiment: Experiment) -> list[str]:
    if not kept:
        return []
    net = kept[0].partition(".")[0]
    sizes = {f"{net}.{name}": p.numel() for name, p in experiment.method.nets[net].named_parameters()}
    share = sum(sizes[name] for name in kept) / sum(sizes.values())
    return [f"{share:.0%} of the {net}'s parameters stay as they are: {_some(kept)}."]


def freeze(experiment: Experiment, names: list[str]) -> Experiment:
    """Return the experiment in which no player has the parameters `names` (`generator.first.weight`), which stay as they are."""
    if not names:
        return experiment
    method = experiment.method
    known = {f"{net}.{name}": p for net, module in method.nets.items() for name, p in module.named_parameters()}
    fixed = {id(known[name]) for name in names}
    for name in names:
        known[name].requires_grad_(False)
    players = {player: [p for p in ps if id(p) not in fixed] for player, ps in method.players.items()}
    return dataclasses.replace(experiment, method=dataclasses.replace(method, players=players))


# ---- the trial ---------------------------------------------------------------------------------------------------------


def is_tried(experiment: Experiment, options: Options) -> bool:
    """Return whether the start is compared with one from nothing: something must be measured, and the budget be long enough."""
    return bool(experiment.validators) and int(options.images or MIN_BUDGET) >= MIN_BUDGET


def compare(experiment: Experiment, start: Transfer, options: Options, machine: Machine) -> tuple[dict[str, Any] | None, str]:
    """Train for a short time from the parent and from nothing, and compare the first validator's metric of both.

    Returns the figures and a sentence; (None, "") where the budget is too short or nothing is measured. The experiment, whose
    networks hold the parent's weights, is left as it is.
    """
    if not is_tried(experiment, options):
        return None, ""
    validator, method = experiment.validators[0], experiment.method
    batch = experiment.recipe.batch
    budget = int(options.images or 10**9)
    images, seconds = max(MIN_TRIAL, round(budget * TRIAL_SHARE / batch) * batch), float(options.minutes or MINUTES) * 60 * TRIAL_SHARE
    plan = dataclasses.replace(plan_of(experiment, options, budget), precision=machine.precision)
    stream, ranks = stream_of(experiment, options), machine.ranks

    def trial(method: Any, averages: Mapping[str, Tensors], most: int, seconds: float | None) -> tuple[float, float, int]:
        """Return the metric before and after, and the images seen."""
        state = State(method, plan.optimizers)
        for name, tensors in averages.items():
            state.averages[name].load_state_dict(tensors)
        kept, scalars = _copies(state.tensors()), state.scalars()
        network = state.averages[experiment.product.network]
        before = validator.measure(network)[validator.name] if ranks.first else 0.0
        seen = train_briefly(state, stream, plan, ranks, machine.device, most, seconds)
        after = validator.measure(network)[validator.name] if ranks.first else 0.0
        state.restore(kept, scalars)
        before, after = cast(Any, distributed.broadcast_from_rank0((before, after)))
        return before, after, seen

    our_start, ours, seen = trial(freeze(experiment, start.record["frozen"]).method, start.averages, images, None if options.images else seconds)
    if seen < MIN_TRIAL:
        return None, ""
    warm = {name: _copies(net.state_dict()) for name, net in method.nets.items()}
    for name, net in method.nets.items():
        net.load_state_dict(start.scratch[name])
    their_start, theirs, _ = trial(method, {}, seen, None)
    for name, net in method.nets.items():
        net.load_state_dict(warm[name])
    figures = {"images": seen, "metric": validator.name, "parent": ours, "nothing": theirs, "parent_before": our_start, "nothing_before": their_start}
    return figures, verdict(figures, validator.better)


def verdict(figures: Mapping[str, Any], better: str) -> str:
    """Return a sentence on the figures of a trial. better: "lower" or "higher"."""
    ours, theirs, metric = figures["parent"], figures["nothing"], figures["metric"]
    values = f"after {figures['images']:,} images of a trial {metric} is {ours:.4g}, and {theirs:.4g} from nothing"
    if not (math.isfinite(ours) and math.isfinite(theirs)):
        return f"The trial does not tell whether the start from the parent helps: {values}."
    gain = (theirs - ours if better == "lower" else ours - theirs) / max(abs(theirs), 1e-12)
    before, untrained = figures["parent_before"], figures["nothing_before"]
    far = metric.startswith("fd_") and before > FAR * untrained
    if gain > NOISE and far:
        return (
            f"The parent's pictures are far from these: their {metric} is {before:.4g}, that of an untrained network {untrained:.4g}. The start "
            f"from them helps at first ({values}); whether it does at the end, only a run from nothing tells."
        )
    if gain > NOISE:
        return f"The start from the parent helps: {values}."
    if gain < -NOISE:
        return f"The start from the parent hurts: {values}; its pictures are too far from these, so leave --from out."
    return f"The start from the parent makes no difference: {values}; its pictures are far from these."

