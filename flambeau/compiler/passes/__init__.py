"""passes of the compiler."""
