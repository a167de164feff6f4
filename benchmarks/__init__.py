"""Benchmarks: the workloads people learn deep learning with, in flambeau and its peers, in turns on one machine."""
