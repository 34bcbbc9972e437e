"""The command that serves trained runs over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from limner.cli.app import Progress, app, open_model, print_line, tell


@app.command
def serve(
    runs: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    key_file: Path | None = None,
    allow_host: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None,
    truncation: Annotated[bool, Parameter(negative=())] = False,
    max_batch: int = 64,
    batch_wait: float = 0.004,
    queue_seconds: float = 0.5,
    timeout: float = 30.0,
    max_pixels: int = 4_000_000,
    device: str = "auto",
) -> None:
    """Serve trained runs over HTTP: OpenAI's images API, the Open Inference Protocol, and Limner's own.

    Needs the extra `studio`. Stop it with Ctrl-C.

    Parameters
    ----------
    runs
        Folders that `limner train` wrote. A model's id is the name of its folder.
    host
        Address to listen on. Off this machine (0.0.0.0) a key is compulsory: the variable LIMNER_KEY, or --key-file.
    port
        Port to listen on; 0 takes a free one.
    key_file
        A file whose first line is the key that clients send as `Authorization: Bearer KEY`, of at least 16 characters.
    allow_host
        Names under which others reach this server, such as that of a reverse proxy; any other Host is refused.
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
    device
        auto, cpu, cuda or mps.
    """
    from limner.apps.web.running import check_installed, listen, read_key, serve_bound

    check_installed()
    from limner.apps.serve.editor import editor_of
    from limner.apps.serve.health import PUBLIC
    from limner.apps.serve.service import calibrate, serve_app
    from limner.apps.serve.settings import Settings
    from limner.apps.web.access import Access

    settings = Settings(
        truncation=truncation, max_batch=max_batch, batch_wait=batch_wait, queue_seconds=queue_seconds, timeout=timeout,
        max_pixels=max_pixels,
    )  # fmt: skip
    access = Access.of(host, read_key(key_file), allow_hosts=allow_host or (), public=PUBLIC)
    with listen(host, port) as bound:  # before the models are loaded, which takes seconds
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
