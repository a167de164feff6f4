"""`python -m flambeau …` is the `flambeau` command."""

from flambeau.cli.main import main

main()
