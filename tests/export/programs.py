"""C programs around exported models, and small models to export."""

import subprocess

import numpy as np

import flambeau as torch
from flambeau import nn
from flambeau.export import native
from flambeau.export.native import c_compiler

COMPILER = c_compiler()

# Reads all inputs from a file, one after the other, runs the model, writes all outputs.
PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "net.h"
%(declarations)s
int main(int argc, char** argv) {
    %(load)s
    FILE* in = fopen(argv[1], "rb");
    %(read)s
    fclose(in);
    int status = net_run(%(arguments)s);
    if (status) return 100 - status;
    FILE* out = fopen(argv[2], "wb");
    %(write)s
    return fclose(out);
}
"""


def program(folder, inputs, outputs, beside=False, link=(), compiler=(COMPILER,)):
    """Compile the C program; the path of the executable."""
    names = [f"x{i}" for i in range(inputs)] + [f"y{i}" for i in range(outputs)]
    sizes = [f"NET_INPUT{i}_BYTES" for i in range(inputs)] + [f"NET_OUTPUT{i}_BYTES" for i in range(outputs)]
    text = PROGRAM % {
        "declarations": "\n".join(f"static _Alignas(64) unsigned char {n}[{s}];" for n, s in zip(names, sizes)),
        "load": "if (net_load(argv[3])) return 50;" if beside else "",
        "read": "\n".join(f"if (fread({n}, 1, {s}, in) != {s}) return 51;" for n, s in zip(names[:inputs], sizes)),
        "arguments": ", ".join(f"(void*){n}" for n in names),
        "write": "\n".join(f"fwrite({n}, 1, {s}, out);" for n, s in zip(names[inputs:], sizes[inputs:])),
    }
    (folder / "main.c").write_text(text)
    executable = folder / "main"
    subprocess.run([*compiler, "-std=c11", "-Wall", "-Werror", "-o", str(executable), str(folder / "main.c"),
                    *(link or [str(folder / "net.o")]), "-lm"], check=True, capture_output=True, text=True)
    return executable


def run(executable, inputs, outputs, *more, emulator=()):
    """What the program writes for these inputs; its exit status if it fails."""
    folder = executable.parent
    (folder / "in.bin").write_bytes(b"".join(np.ascontiguousarray(x.numpy()).tobytes() for x in inputs))
    done = subprocess.run([*emulator, executable, folder / "in.bin", folder / "out.bin", *more], check=False)
    if done.returncode:
        return done.returncode
    content, found = (folder / "out.bin").read_bytes(), []
    for y in outputs:
        array = y.numpy()
        found.append(np.frombuffer(content[: array.nbytes], array.dtype).reshape(array.shape))
        content = content[array.nbytes :]
    return found


def answers(model, inputs):
    with torch.no_grad():
        result = model(*inputs)
    return list(result) if isinstance(result, tuple) else [result]


def compare(model, inputs, folder, tolerance=1e-5, compiler=(COMPILER,), emulator=(), **options):
    """Export, compile, run, and compare with eager; on the example inputs and on others."""
    native.export(model, inputs, folder, name="net", **options)
    beside = options.get("weights") == "beside"
    outputs = answers(model, inputs)
    executable = program(folder, len(inputs), len(outputs), beside, compiler=compiler)
    others = [x.flip(0) if x.dim() else x for x in inputs]
    for given in (inputs, others):
        found = run(executable, given, outputs, *([folder / "net.weights"] if beside else []), emulator=emulator)
        assert isinstance(found, list), f"the program failed with status {found}"
        for mine, theirs in zip(found, answers(model, given)):
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=tolerance, atol=tolerance)


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 33), nn.ReLU(), nn.Linear(33, 7), nn.Softmax(1)).eval()


def convnet():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 20, 3, padding=1), nn.BatchNorm2d(20), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Conv2d(20, 9, 3, stride=2), nn.LeakyReLU(0.1), nn.AvgPool2d(2), nn.Flatten(),
                          nn.Linear(9, 4))
    model(torch.randn(8, 3, 14, 14) * 2 + 1)  # statistics that are not 0 and 1
    return model.eval()
