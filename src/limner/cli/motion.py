"""The command that sets a picture in motion."""

from __future__ import annotations

from pathlib import Path

from limner.cli.app import Device, Progress, app, open_model, print_line


@app.command
def animate(
    run: Path,
    picture: Path,
    /,
    *,
    out: Path | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    loop: bool = False,
    device: Device = "auto",
) -> None:
    """Set a picture in motion with a generator of clips: its latent is found, and its time goes on.

    Parameters
    ----------
    run
        The folder that `limner train --recipe motion` wrote.
    picture
        A picture of any size and mode, or a latent that `limner invert` wrote.
    out
        A .gif, .webp or .mp4 (default: animated.gif in the run folder).
    seconds
        Duration, at most 600 (default: one period, which closes).
    fps
        Frames a second, from 1 to 50 (default 24).
    loop
        Close the clip, at the speed nearest to that of the training clips.
    """
    from limner.apps.model import GeneratorModel
    from limner.apps.motion import animate as make

    with Progress("drawing") as progress:
        print_line(make(open_model(run, device, GeneratorModel, "animate"), picture, out, seconds, fps, loop, progress))
