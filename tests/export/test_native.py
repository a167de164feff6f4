"""`flambeau.export.native`: a C program with the exported object computes what eager computes."""

import shutil
import subprocess

import numpy as np
import pytest

import flambeau as torch
from flambeau import nn

pytest.importorskip("llvmlite")
from flambeau.export import native
from tests.export.programs import COMPILER, answers, compare, convnet, mlp, program, run

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here")

@needs_compiler
@pytest.mark.parametrize("cpu", ["native", "generic"])
@pytest.mark.parametrize("weights", ["inside", "beside"])
def test_mlp(tmp_path, cpu, weights):
    compare(mlp(), (torch.randn(3, 20),), tmp_path, cpu=cpu, weights=weights)


@needs_compiler
@pytest.mark.parametrize("cpu", ["native", "generic"])
def test_convolutions_with_batch_norm_and_pooling(tmp_path, cpu):
    compare(convnet(), (torch.randn(2, 3, 14, 14),), tmp_path, cpu=cpu)


@needs_compiler
def test_transformer_layer(tmp_path):
    torch.manual_seed(0)
    compare(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval(), (torch.randn(2, 7, 16),), tmp_path)


class Reader(nn.Module):
    """Words to classes, by way of an LSTM."""

    def __init__(self):
        super().__init__()
        self.words, self.lstm, self.head = nn.Embedding(11, 16), nn.LSTM(16, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x):
        states, (last, _) = self.lstm(self.words(x))
        return self.head(last[0]), states.mean(1)


@needs_compiler
def test_lstm_and_indices_out_of_bounds(tmp_path):
    torch.manual_seed(0)
    model, x = Reader().eval(), torch.randint(0, 11, (3, 6))
    compare(model, (x,), tmp_path)
    executable = tmp_path / "main"
    for wrong in (11, -1):
        x[1, 2] = wrong
        assert run(executable, [x], answers(model, [torch.zeros_like(x)])) == 102  # OUT_OF_BOUNDS


class Several(nn.Module):
    def forward(self, a, b):
        return a @ b, a.sum(0) + b.t().mean(), torch.cat([a, b.t()], 1)


@needs_compiler
def test_several_inputs_and_outputs(tmp_path):
    compare(Several(), (torch.randn(4, 6), torch.randn(6, 4)), tmp_path)


class Moves(nn.Module):
    def forward(self, x):
        return x.roll((1, -2), (2, 3)).repeat(2, 1, 1, 3)


@needs_compiler
@pytest.mark.parametrize("layer, shape", [
    (lambda: nn.Conv2d(8, 12, 3, padding=2, dilation=2, groups=4), (2, 8, 9, 9)),
    (lambda: nn.Conv2d(8, 8, 3, padding=1, groups=8, stride=2), (1, 8, 9, 9)),
    (lambda: nn.Conv1d(4, 6, 5, padding=2, stride=2), (2, 4, 19)),
    (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2), (2, 6, 5, 5)),
    (lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 10, 8)),
    (lambda: nn.AdaptiveAvgPool2d((3, 2)), (1, 2, 7, 8)),
    (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)), (2, 4, 5, 3)),
    (lambda: nn.Sequential(nn.ConstantPad2d((1, -1, 2, 0), 0.5), Moves()), (1, 2, 4, 5)),
    (lambda: nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 1)).double(), (3, 5)),
])  # fmt: skip
def test_layers(tmp_path, layer, shape):
    torch.manual_seed(0)
    made = layer()
    kind = next((p.dtype for p in made.parameters()), torch.float32)
    compare(made, (torch.randn(*shape, dtype=kind),), tmp_path)


@needs_compiler
def test_shared_library(tmp_path):
    model, x = mlp(), torch.randn(3, 20)
    made = native.export(model, x, tmp_path, name="net", shared=True)
    assert made.library.exists()
    executable = program(tmp_path, 1, 1, link=[str(made.library), f"-Wl,-rpath,{tmp_path}"])
    (found,) = run(executable, [x], answers(model, [x]))
    np.testing.assert_allclose(found, answers(model, [x])[0].numpy(), rtol=1e-5, atol=1e-6)


@needs_compiler
def test_weights_of_another_build_are_refused(tmp_path):
    model, x = mlp(), torch.randn(3, 20)
    native.export(model, x, tmp_path, name="net", weights="beside")
    executable = program(tmp_path, 1, 1, beside=True)
    good = (tmp_path / "net.weights").read_bytes()
    for number, content in enumerate([b"", good[:-1], good[:40] + bytes([good[40] ^ 1]) + good[41:], b"x" + good[1:]]):
        path = tmp_path / f"{number}.weights"
        path.write_bytes(content)
        assert run(executable, [x], answers(model, [x]), path) == 50
    assert run(executable, [x], answers(model, [x]), tmp_path / "missing") == 50
    assert isinstance(run(executable, [x], answers(model, [x]), tmp_path / "net.weights"), list)


THREADS = """
#include <pthread.h>
#include <string.h>
#include "net.h"
static float x[NET_INPUT0_SIZE], want[NET_OUTPUT0_SIZE];
static void* work(void* wrong) {
    float y[NET_OUTPUT0_SIZE];
    for (int i = 0; i < 2000; i++)
        if (net_run(x, y) || memcmp(y, want, sizeof y)) *(int*)wrong = 1;
    return 0;
}
int main(void) {
    int wrong[4] = {0};
    pthread_t threads[4];
    for (int i = 0; i < NET_INPUT0_SIZE; i++) x[i] = (float)(i % 7) - 3;
    if (net_run(x, want)) return 1;
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, work, &wrong[i]);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    return wrong[0] | wrong[1] | wrong[2] | wrong[3];
}
"""


@needs_compiler
def test_threads_do_not_meet(tmp_path):
    native.export(mlp(), torch.randn(3, 20), tmp_path, name="net")
    (tmp_path / "threads.c").write_text(THREADS)
    files = [tmp_path / "threads.c", tmp_path / "net.o"]
    subprocess.run([COMPILER, "-pthread", "-o", tmp_path / "threads", *files, "-lm"], check=True)
    assert subprocess.run([tmp_path / "threads"], check=False).returncode == 0


@needs_compiler
def test_the_object_needs_the_c_library_only(tmp_path):
    if shutil.which("nm") is None:
        pytest.skip("no nm here")
    native.export(convnet(), torch.randn(2, 3, 14, 14), tmp_path, name="net", cpu="generic")
    names = subprocess.run(["nm", "-u", tmp_path / "net.o"], capture_output=True, text=True, check=True).stdout.split()
    assert set(names) - {"U", "w", "_GLOBAL_OFFSET_TABLE_"} <= {"malloc", "free", "memcpy", "memset", "memmove"}


def test_header_says_shapes_and_sizes(tmp_path):
    made = native.export(Several(), (torch.randn(4, 6), torch.randn(6, 4)), tmp_path / "new" / "folder", name="several")
    text = made.header.read_text()
    assert "#define SEVERAL_INPUT1_SHAPE {6, 4}" in text and "#define SEVERAL_OUTPUT2_SIZE 48" in text
    assert '#define SEVERAL_INPUT0_DTYPE "float32"' in text and "#define SEVERAL_INPUTS 2" in text
    assert "int several_run(const float* x0, const float* x1, float* y0, float* y1, float* y2);" in text
    assert f"#define SEVERAL_WORKSPACE_BYTES {made.workspace}" in text and "several_load" not in text


class Stateful(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


@pytest.mark.parametrize("model, reason", [
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout()), "random"),
    (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "writes to its buffers"),
    (Stateful, "reads the values"),
    (lambda: lambda x: torch.linalg.svd(x)[1], "no native code for svd"),
    (lambda: lambda x: x.to(torch.bfloat16), "no C type"),
])  # fmt: skip
def test_what_cannot_leave_python_says_why(tmp_path, model, reason):
    made = model()
    state = {k: v.clone() for k, v in made.state_dict().items()} if isinstance(made, nn.Module) else {}
    with pytest.raises(RuntimeError, match=reason):
        native.export(made, torch.randn(3, 4), tmp_path)
    assert not list(tmp_path.iterdir())
    assert all(torch.equal(made.state_dict()[name], value) for name, value in state.items())


def test_arguments_are_checked(tmp_path):
    for options in ({"name": "two words"}, {"weights": "elsewhere"}, {"cpu": "z80"}):
        with pytest.raises(ValueError, match=r"^(export|cpu): "):
            native.export(mlp(), torch.randn(3, 20), tmp_path, **options)
    with pytest.raises(ValueError, match="example_inputs"):
        native.export(mlp(), [], tmp_path)
