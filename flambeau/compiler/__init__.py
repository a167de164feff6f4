"""compile: a function of tensors as one native program."""
