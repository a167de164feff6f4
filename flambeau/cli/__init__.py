"""The `flambeau` command: train, predict."""
