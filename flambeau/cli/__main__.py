"""`python -m flambeau.cli`, for when the console script is not on the path."""

from flambeau.cli.main import main

main()
