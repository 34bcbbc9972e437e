"""The state of a run and its checkpoints, which are written atomically and read without pickle."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limner.core import checkpoint
from limner.core.documents import Scalars
from limner.core.files import write_error, write_tensors
from limner.core.options import Needs, option
from limner.core.schema import Mismatch, conform, parse
from limner.methods.phase import Method, Stateful
from limner.training.adam import Adam, AdamW


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The optimizer of one player."""

    name: str = option("adam", "Algorithm.", choices=("adam", "adamw", "rmsprop", "sgd"))
    lr: float = option(2e-4, "Learning rate before warm-up and decay.", low=0)
    beta1: float = option(0.5, "Adam's beta1 (momentum for SGD and RMSprop).", low=0, high=0.9999999)
    beta2: float = option(0.99, "Adam's beta2 (smoothing constant for RMSprop).", low=0, high=0.9999999, needs=Needs("name", ("adam", "adamw", "rmsprop")))
    weight_decay: float = option(0.0, "Weight decay: decoupled for AdamW, an L2 penalty otherwise.", low=0)

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the PyTorch optimizer. Raises ValueError for an unknown name."""
        betas, decay = (self.beta1, self.beta2), self.weight_decay
        fused = parameters[0].device.type in ("cuda", "cpu")
        kinds: dict[str, Callable[[], torch.optim.Optimizer]] = {
            "adam": lambda: (Adam if fused else torch.optim.Adam)(parameters, self.lr, betas, weight_decay=decay),
            "adamw": lambda: (AdamW if fused else torch.optim.AdamW)(parameters, self.lr, betas, weight_decay=decay),
            "rmsprop": lambda: torch.optim.RMSprop(
                parameters, self.lr, self.beta2, momentum=self.beta1, weight_decay=decay
            ),
            # fused SGD fails if some parameters have momentum and others have no gradient yet
            "sgd": lambda: torch.optim.SGD(parameters, self.lr, self.beta1, weight_decay=decay),
        }
        if self.name not in kinds:
            raise ValueError(f"The optimizer {self.name!r} is unknown: choose one of {', '.join(kinds)}.")
        return kinds[self.name]()


class State:
    """The networks, their averages, the optimizers, the method's memory, and the progress of the run."""

    def __init__(
        self, method: Method, optimizers: Mapping[str, OptimizerConfig], beside: Mapping[str, Stateful] | None = None
    ) -> None:
        """beside: other objects with state, in addition to the method's memory."""
        self.method = method
        self.memory = {**method.memory, **(beside or {})}
        self.averages = {
            name: copy.deepcopy(method.nets[name]).requires_grad_(False).eval() for name in method.averaged
        }
        self._averaged = [_pairs(mean, method.nets[name]) for name, mean in self.averages.items()]
        self.optimizers = {player: optimizers[player].build(list(ps)) for player, ps in method.players.items()}
        self.base_lr = {player: optimizers[player].lr for player in method.players}
        self.seen = 0
        self.seconds = 0.0  # of training, over all starts
        self.lr_scale = dict.fromkeys(method.players, 1.0)  # factor on each learning rate
        self.grad_stats: dict[str, float] = {}  # of each player's main phase: gradient norm, step relative to the weights' norm
        self.nonfinite_count = 0  # number of non-finite losses
        self.failed: set[str] = set()  # players whose loss was not finite on this rank since the ranks were averaged

    def average(self, decay: float) -> None:
        """Update the averages: parameters and floating-point buffers (running statistics) are averaged; integer and boolean
        buffers (counters, tables) are copied from the network, since they have no mean."""
        with torch.no_grad():
            for means, values, holders in self._averaged:
                buffers = [(mean[key], now[key]) for mean, now, key in holders]
                floating = [pair for pair in buffers if pair[0].is_floating_point()]
                torch._foreach_lerp_([*means, *(a for a, _ in floating)], [*values, *(b for _, b in floating)], 1 - decay)
                for a, b in buffers:
                    if not a.is_floating_point():
                        a.copy_(b)

    def settings(self) -> dict[str, float]:
        """Return the settings that may change during training: factors on the learning rates, and the method's levers."""
        return {f"lr of {player}": factor for player, factor in self.lr_scale.items()} | dict(self.method.levers)

    def set(self, settings: Mapping[str, float]) -> None:
        """Apply changed `settings`."""
        self.lr_scale = {player: settings[f"lr of {player}"] for player in self.lr_scale}
        self.method.levers.update({name: settings[name] for name in self.method.levers})

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the state by name, without copying."""
        found: dict[str, Tensor] = {}
        for name, net in self.method.nets.items():
            found |= {f"net.{name}.{key}": value for key, value in net.state_dict().items()}
        for name, net in self.averages.items():
            found |= {f"average.{name}.{key}": value for key, value in net.state_dict().items()}
        for player, optimizer in self.optimizers.items():
            for i, values in optimizer.state_dict()["state"].items():
                found |= {f"optimizer.{player}.{i}.{k}": v for k, v in values.items() if isinstance(v, Tensor)}
        for name, thing in self.memory.items():
            found |= {f"memory.{name}.{k}": v for k, v in thing.state_dict().items() if isinstance(v, Tensor)}
        return found

    def trained(self) -> list[Tensor]:
        """Return the floating-point tensors that a turn may change: those of networks, optimizers and the method's memory."""
        changing = ("net.", "optimizer.", *(f"memory.{name}." for name in self.method.memory))
        return [tensor for name, tensor in self.tensors().items() if tensor.is_floating_point() and name.startswith(changing)]

    def scalars(self) -> dict[str, Any]:
        memory = {
            name: {k: v for k, v in thing.state_dict().items() if not isinstance(v, Tensor)}
            for name, thing in self.memory.items()
        }
        own = {"seen": self.seen, "seconds": self.seconds, "lr_scale": dict(self.lr_scale), "nonfinite_count": self.nonfinite_count}
        own |= {"grad_stats": dict(self.grad_stats), "levers": dict(self.method.levers)}
        return own | {"memory": memory}

    def restore(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Restore the state from `tensors` and `scalars`.

        Raises ValueError when they belong to other networks, and Mismatch when they do not fit this state otherwise.
        """
        self._check(tensors, scalars)
        for prefix, nets in (("net", self.method.nets), ("average", self.averages)):
            for name, net in nets.items():
                part = _below(tensors, f"{prefix}.{name}.")
                try:
                    net.load_state_dict(part)
                except RuntimeError as error:
                    raise ValueError(
                        f"The checkpoint holds another {name} than this recipe builds: train into a new folder."
                    ) from error
        for player, optimizer in self.optimizers.items():
            states: dict[int, dict[str, Tensor]] = {}
            parameters = list(self.method.players[player])
            for key, value in _below(tensors, f"optimizer.{player}.").items():
                index, slot = key.split(".", 1)
                _check_slot(optimizer, player, index, slot, value, parameters)
                states.setdefault(int(index), {})[slot] = _with_layout_of(parameters[int(index)], value)
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        for name, thing in self.memory.items():
            try:
                thing.load_state_dict(_below(tensors, f"memory.{name}.") | scalars["memory"].get(name, {}))
            except (KeyError, TypeError, RuntimeError, AttributeError) as error:
                raise Mismatch(f"its state of {name!r} does not fit") from error
        self.seen, self.seconds = scalars["seen"], scalars["seconds"]
        self.lr_scale, self.nonfinite_count = dict(scalars["lr_scale"]), scalars["nonfinite_count"]
        self.grad_stats = dict(scalars["grad_stats"])
        self.method.levers.update(scalars["levers"])


    def _check(self, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Raise Mismatch for scalars that this state cannot have, and for tensors that belong to nothing in it."""
        conform(scalars, Scalars)
        for field, now in (("lr_scale", self.lr_scale), ("levers", self.method.levers), ("memory", self.memory)):
            if scalars[field].keys() != now.keys():
                raise Mismatch(f"{field!r} must name {', '.join(now) or 'nothing'}")
        for name, thing in self.memory.items():
            now = {k: v for k, v in thing.state_dict().items() if not isinstance(v, Tensor)}
            _check_like(scalars["memory"][name], now, f"memory.{name}")
        owners = [f"net.{name}." for name in self.method.nets] + [f"average.{name}." for name in self.averages]
        owners += [f"optimizer.{player}." for player in self.optimizers] + [f"memory.{name}." for name in self.memory]
        if strange := next((name for name in tensors if not name.startswith(tuple(owners))), None):
            raise Mismatch(f"this recipe has no tensor {strange!r}")


def _pairs(mean: nn.Module, net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[tuple[Any, Any, str]]]:
    """Return the parameters of two equal networks, and where their buffers are held, which a network may replace.

    To find them takes longer than to average them, so it is done once.
    """
    holders = [
        (a._buffers, b._buffers, key)
        for a, b in zip(mean.modules(), net.modules(), strict=True)
        for key, buffer in a._buffers.items()
        if buffer is not None
    ]
    return list(mean.parameters()), list(net.parameters()), holders


SLOTS = {  # optimizer class -> its tensors for each parameter
    "Adam": ("step", "exp_avg", "exp_avg_sq"),
    "AdamW": ("step", "exp_avg", "exp_avg_sq"),
    "RMSprop": ("step", "square_avg", "momentum_buffer"),
    "SGD": ("momentum_buffer",),
}


def _check_slot(
    optimizer: torch.optim.Optimizer, player: str, index: str, slot: str, value: Tensor, parameters: Sequence[nn.Parameter]
) -> None:
    """Raise Mismatch for an optimizer tensor of an unknown parameter or slot, or of another shape."""
    name = f"optimizer.{player}.{index}.{slot}"
    if not (index.isascii() and index.isdigit()) or int(index) >= len(parameters):
        raise Mismatch(f"{name!r} belongs to no parameter")
    if slot not in SLOTS[type(optimizer).__name__]:
        raise Mismatch(f"{name!r} is not a tensor of {type(optimizer).__name__}")
    if value.shape != (torch.Size([]) if slot == "step" else parameters[int(index)].shape) or not value.is_floating_point():
        raise Mismatch(f"{name!r} has another shape or type than its parameter")


def _check_like(value: Any, now: Any, field: str) -> None:
    """Raise Mismatch if `value` has another structure than `now`: the same names at the top level, numbers at the leaves."""
    if type(value) is not type(now) and not (type(value) is int and isinstance(now, float)):
        raise Mismatch(f"{field!r} must be {type(now).__name__}, not {type(value).__name__}")
    if isinstance(now, dict):
        if value.keys() != now.keys():
            raise Mismatch(f"{field!r} must name {', '.join(now) or 'nothing'}")
        for name, inner in now.items():
            if isinstance(inner, dict | list):
                _check_numbers(value[name], inner, f"{field}.{name}")
            else:
                _check_like(value[name], inner, f"{field}.{name}")


def _check_numbers(value: Any, now: Any, field: str) -> None:
    """Raise Mismatch if `value` has another type than `now` or holds anything but numbers at any depth."""
    if type(value) is not type(now):
        raise Mismatch(f"{field!r} must be {type(now).__name__}, not {type(value).__name__}")
    waiting = list(value.values() if isinstance(value, dict) else value)
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict | list):
            waiting += item.values() if isinstance(item, dict) else item
        elif not isinstance(item, int | float):
            raise Mismatch(f"{field!r} must hold numbers, not {item!r:.40}")


def _with_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a copy of an optimizer tensor with the parameter's memory layout.

    Files hold contiguous tensors; the fused kernels traverse parameter, gradient and state by memory, not by index, and
    silently mix up a channels_last parameter with a contiguous state.
    """
    if value.shape != parameter.shape:
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype, memory_format=torch.preserve_format).copy_(value)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


# ---- on disk ---------------------------------------------------------------------------------------------------------


def save(state: State, folder: Path, rollback: bool = False) -> None:
    """Write the state as `latest`; the one before is kept as `previous`.

    rollback: it is the state to return to after a non-finite loss, and is kept as `rollback` until the next one.
    """
    latest = checkpoint.file_of(folder, checkpoint.LATEST)
    if _is_readable(latest):  # a damaged checkpoint must not replace the one that the run was resumed from
        _link(latest, checkpoint.file_of(folder, checkpoint.PREVIOUS))
    written = checkpoint.file_of(folder, checkpoint.ROLLBACK) if rollback else latest
    write_tensors(written, state.tensors(), {"scalars": json.dumps(state.scalars())})
    if rollback:  # after a kill before this line, the run resumes at `latest` and writes both again
        _link(written, latest)


def _link(path: Path, name: Path) -> None:
    """Give a file a second name, atomically: a valid checkpoint exists at every moment."""
    temporary = name.with_suffix(".new")
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(path)
        except OSError:  # a file system without hard links
            temporary.write_bytes(path.read_bytes())
        temporary.replace(name)
    except OSError as error:
        raise write_error(error, name) from error
    finally:
        with suppress(OSError):  # if both names were the same file already, `replace` does nothing
            temporary.unlink(missing_ok=True)


def _is_readable(path: Path) -> bool:
    """Return whether a checkpoint exists and has the length in its header; its tensors are not read."""
    try:
        return checkpoint.newest(path.parent, _scalars, (path.stem,))[0] is not None
    except ValueError:
        return False


def _scalars(file: Any) -> dict[str, Any]:
    scalars: dict[str, Any] = conform(parse(file.metadata()["scalars"]), Scalars)
    return scalars


def progress(folder: Path) -> tuple[int, float] | None:
    """Return (images seen, seconds of training) of the newest readable checkpoint of the folder; None if there is none."""

    def read(file: Any) -> tuple[int, float]:
        scalars = _scalars(file)
        return int(scalars["seen"]), float(scalars["seconds"])

    return checkpoint.newest(folder, read)[0]


def load(
    state: State, folder: Path, device: torch.device, rollback: bool = False, most: int | None = None
) -> str | None:
    """Restore the newest readable checkpoint of the folder; with rollback, preferably the rollback state.

    most: maximum number of images seen of a valid checkpoint. Returns None if there is none, otherwise a sentence on its
    progress (and whether the newest was damaged). Raises ValueError when there are checkpoints but none can be read.
    """

    def read(file: Any) -> int:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        scalars = _scalars(file)
        if most is not None and scalars["seen"] > most:
            raise Mismatch(f"'seen' must be at most {most:,}, the budget, not {scalars['seen']:,}")
        state.restore(tensors, scalars)
        return state.seen

    names = (checkpoint.ROLLBACK, checkpoint.LATEST, checkpoint.PREVIOUS) if rollback else checkpoint.NEWEST_FIRST
    seen, problems = checkpoint.newest(folder, read, names, str(device))
    if seen is not None:
        damaged = " (the newest checkpoint is damaged; this is an earlier one)" if problems else ""
        return f"Resuming at {seen:,} images{damaged}."
    if problems:
        raise ValueError(f"The checkpoints in {folder} are damaged ({problems[0]}): train into a new folder.")
    return None
