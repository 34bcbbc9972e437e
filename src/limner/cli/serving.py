"""The command that serves trained runs over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Device, Progress, app, open_model, print_line, tell
from limner.cli.listening import Listening, Port


@app.command
def serve(
    runs: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    port: Port = 8000,
    listening: Listening | None = None,
    truncation: Annotated[bool, Parameter(negative=())] = False,
    max_batch: int = 64,
    batch_wait: float = 0.004,
    queue_seconds: float = 0.5,
    timeout: float = 30.0,
    max_pixels: int = 4_000_000,
    device: Device = "auto",
) -> None:
    """Serve trained runs over HTTP: OpenAI's images API, the Open Inference Protocol, and Limner's own.

    Needs the extra `studio`. Stop it with Ctrl-C.

    Parameters
    ----------
    runs
        Folders that `limner train` wrote. A model's id is the name of its folder.
    truncation
        Prepare every class for a truncation below 1 at the start, which takes up to a minute a class. A stylegan2 needs none.
    max_batch
        Most pictures of one forward pass.
    batch_wait
        Seconds that a request waits for others to share its forward pass.
    queue_seconds
        Expected seconds of waiting and computing beyond which a request is refused with 429.
    timeout
        Seconds after which a request is given up with 504.
    max_pixels
        Most pixels of an uploaded picture, and of the picture made of it.
    """
    from limner.apps.web.running import check_installed, listen, serve_bound

    check_installed()
    from limner.apps.serve.editor import editor_of
    from limner.apps.serve.health import PUBLIC
    from limner.apps.serve.service import calibrate, serve_app
    from limner.apps.serve.settings import Settings

    settings = Settings(
        truncation=truncation, max_batch=max_batch, batch_wait=batch_wait, queue_seconds=queue_seconds, timeout=timeout,
        max_pixels=max_pixels,
    )  # fmt: skip
    listening = listening or Listening()
    access = listening.access(public=PUBLIC)
    with listen(listening.host, port) as bound:  # before the models are loaded, which takes seconds
        models = [(name_of(run), open_model(run, device, object, "serve")) for run in runs]
        if truncation:
            for _, model in models:
                with Progress("calibrating the truncation") as progress:
                    calibrate(model, progress)
        served = serve_app(models, access, settings, editor_of)
        for name, one in served.state.service.models.items():
            one.warm_up()
            print_line(f"{name} is a {one.kind} of {one.model.spec}.")
        serve_bound(served, bound, tell, path="/v1/models")
        tell("The server has ended.")


def name_of(run: Path) -> str:
    """Return the name of a run: that of its folder, and for its best state that of the run."""
    folder = run.resolve()
    return f"{folder.parent.name}-best" if folder.name == "best" else folder.name
