"""The operators, one file per family; `ops/public.py` lists the public names, `ops/methods.py` the tensor methods."""
