"""What the local web applications share: `limner serve`, `limner studio` and `limner study`.

    access.py    who may ask: Host allowlist, Origin, key and token, as pure functions of a request's headers
    guard.py     ASGI middleware: applies `access`, sets the security headers, limits bodies, answers unexpected errors
    errors.py    `Refusal`, and handlers that turn a ValueError into one sentence of JSON
    static.py    the files of a page, from a fixed list read at the start
    uploads.py   a picture from the bytes of a request, with its pixels limited before it is decoded
    registry.py  names and opaque ids for objects: requests never hold paths
    factory.py   `create_app`: a FastAPI application with all of it
    running.py   `run`, and `Background` for tests: the application on uvicorn

A page application, whole:

    access = Access.of(host, key=running.read_key(key_file), token=True)
    app = create_app("Limner studio", access)
    page = StaticFiles.of_package("limner.apps.studio", "page")     # index.html, studio.js, studio.css, ...
    add_page(app, page, access)                                     # GET / and GET /static/{name}

    @app.post("/runs/{id}/stop")                                    # a token is required: it is no GET
    def stop(id: str) -> dict[str, bool]:
        runs.get(id).stop()                                         # Registry: 404 for an unknown id
        return {"stopped": True}

    run(app, host, port)                                            # prints the address; returns after Ctrl-C or SIGTERM

The page's `<meta name="limner-token" content="{{token}}">` is filled in; its script sends `X-Limner-Token` with every request
that is no GET or HEAD. The Content-Security-Policy allows no inline script or style and, by trusted types, no `innerHTML`:
build elements with `createElement` and `textContent`, and empty them with `replaceChildren()`. Images, `fetch` and EventSource
work with the own origin only; `blob:` and `data:` images are allowed. Live updates are server-sent events (a `StreamingResponse`
of `text/event-stream`, which ends when `app.state.stopping` is set); uvicorn has no WebSockets without a further package.

The packages are those of the extra `studio`; `running.check_installed` says so when they are missing.
"""
