"""`limner studio`: one local page to train, watch, explore and use models.

    studio.py         what requests are answered from; nothing in memory is lost with the server
    launch.py runs.py trainings as processes of their own, and run folders as the page shows them
    dataset.py        a data set before training; folders that were dropped on the page
    state.py          a picture as a value: a command, JSON, the text chunks of a PNG
    axes.py generator.py latent_map.py   sliders, pictures and the map of a generator
    pictures.py       what a model makes of a picture of one's own
    newest.py jobs.py newest wins, and work that takes seconds
    hooks.py          what the studio does by the rooms of editing and export
    routes_*.py app.py   the requests
    page/             the page: HTML, CSS and modules, without a build step
"""
