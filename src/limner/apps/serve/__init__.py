"""`limner serve`: trained runs behind HTTP, on the machine that has them.

    settings.py   limits
    batching.py   a worker thread per model with a bounded queue, which computes compatible requests in one batch
    pace.py       the expected time until an answer, which bounds the queue
    served.py     a model with its worker: what it can do, and the requests of each kind
    waiting.py    an answer is awaited until it is there, the client leaves or the time is over
    prompt.py     the words of a prompt
    pictures.py   pictures in answers: PNG, JPEG, WebP, base64
    openai_api.py the images API of OpenAI: /v1/models, /v1/images/...
    native.py     Limner's own API: /v1/runs/...
    inference.py  the Open Inference Protocol, version 2: /v2/...
    health.py     /healthz, /readyz, /metrics
    metrics.py    counters and histograms in the text format of Prometheus
    service.py    the application with all of it

    request ─▶ web.Guard ─▶ router ─▶ Served.submit ─▶ queue ─▶ worker thread: one batch ─▶ future ─▶ PNG in a thread ─▶ answer
"""
