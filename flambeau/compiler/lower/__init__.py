"""lower of the compiler."""
