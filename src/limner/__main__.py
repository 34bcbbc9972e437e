"""`python -m limner`, and what torchrun starts."""

from limner.cli import main

main()
