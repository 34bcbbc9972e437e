"""Human studies: people judge whether pictures are real or generated, or which of two runs' pictures is better.

    pictures.py    the pictures of a study: samples and real pictures made alike, or pairs of two runs
    plan.py        what each rater sees, in which order and under which ids
    store.py       the study's folder: settings, pictures, raters, answers
    session.py     the raters' progress: start, answer, resume
    server.py      the local web page
    run.py         a new study or an old one, served
    intervals.py   confidence intervals of rates
    results.py     rates, consistency and times of the answers
    report.py      report.md, report.json and the sheet of pictures

A study of the first kind follows HYPE-infinity (Zhou et al., "HYPE: A Benchmark for Human eYe Perceptual Evaluation of
Generative Models", 2019): real or fake, without a time limit, half of the pictures real; the score is the share of wrong answers,
50 % where nobody sees a difference.
"""
