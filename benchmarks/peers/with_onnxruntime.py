"""ONNX Runtime: the inference workloads, exported from PyTorch with the same weights.

All graph optimizations are on (batch norm folded, blocked layouts). The export runs in a process of its own, so that
neither PyTorch's memory nor its threads are measured.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import Unit
from benchmarks.workloads import WORKLOADS


def export(workload: str, path: str, seed: int) -> None:
    """Write the workload's network, in eval mode and for its batch size, as an ONNX file."""
    import torch

    torch.manual_seed(seed)
    work = WORKLOADS[workload].build(torch, None)
    torch.onnx.export(
        work.step, work.batches[0], path, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"]
    )


def build(implementation: str, workload: str, threads: int, seed: int) -> Unit:
    """An inference session; `threads` 0 leaves their number to ONNX Runtime (one per core)."""
    import numpy as np
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.onnx"))
        subprocess.run(
            [sys.executable, "-m", "benchmarks.peers.with_onnxruntime", workload, path, str(seed)], check=True
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    generator = np.random.default_rng(seed)
    images = itertools.cycle([generator.standard_normal(shape, dtype=np.float32) for _ in range(2)])
    return Unit(
        lambda: session.run(None, {"x": next(images)})[0],
        onnxruntime.__version__,
        number=lambda value: float(value.mean()),
        each=True,
    )


if __name__ == "__main__":
    export(sys.argv[1], sys.argv[2], int(sys.argv[3]))
