"""Exported code for other processors: what it is made of, and an ARM processor that is emulated."""

import shutil
import struct

import pytest

import flambeau as torch
from flambeau import nn

pytest.importorskip("llvmlite")
import llvmlite.binding as llvm

from flambeau.backends.llvm import codegen
from flambeau.export import native
from flambeau.export.target import target_for
from tests.export.programs import compare, convnet, mlp

ARM = "aarch64-linux-gnu"
CROSS, EMULATOR = shutil.which(f"{ARM}-gcc"), shutil.which("qemu-aarch64")
emulated = pytest.mark.skipif(CROSS is None or EMULATOR is None, reason="needs Debian's gcc-aarch64-linux-gnu and "
                              "qemu-user")


def has(triple):
    llvm.initialize_all_targets()
    try:
        llvm.Target.from_triple(triple)
    except RuntimeError:
        return False
    return True


def assembly(model, x, cpu, triple):
    target = target_for(cpu, triple)
    text = str(native.emitted(model, [x], "net", target).module)
    return codegen.generate(text, 1, "emit_assembly", target.machine())


@pytest.mark.parametrize("triple, cpu, wanted, foreign", [
    (ARM, "generic", "fmla\tv", "ymm"),
    (ARM, "cortex-a76", "fmla\tv", "ymm"),
    ("arm64-apple-darwin", "generic", "fmla.4s\tv", "ymm"),
    ("x86_64-linux-gnu", "x86-64-v4", "zmm", "fmla"),
    ("x86_64-linux-gnu", "x86-64-v3", "vfmadd231ps", "zmm"),
    ("x86_64-linux-gnu", "generic", "mulps\t", "vfmadd"),
])  # fmt: skip
@pytest.mark.parametrize("model, shape", [(convnet, (2, 3, 14, 14)), (mlp, (3, 20))])
def test_products_use_the_vectors_of_the_processor(model, shape, triple, cpu, wanted, foreign):
    if not has(triple):
        pytest.skip(f"this LLVM has no {triple}")
    text = assembly(model(), torch.randn(*shape), cpu, triple)
    assert text.count(wanted) > 10 and foreign not in text


@pytest.mark.parametrize("triple, machine", [(ARM, 183), ("x86_64-linux-gnu", 62)])
def test_objects_are_for_the_machine_that_was_asked_for(tmp_path, triple, machine):
    if not has(triple):
        pytest.skip(f"this LLVM has no {triple}")
    content = native.export(mlp(), torch.randn(3, 20), tmp_path, triple=triple).object.read_bytes()
    assert content[:4] == b"\x7fELF" and struct.unpack_from("<H", content, 18) == (machine,)


class Mixed(nn.Module):
    """Sums, exponentials, integers, a recurrence and two results."""

    def __init__(self):
        super().__init__()
        self.table, self.memory = nn.Embedding(11, 6), nn.LSTM(6, 16)

    def forward(self, tokens, x):
        found, _ = self.memory(self.table(tokens))
        return torch.softmax(found.mean(0) @ x.t(), 1) + torch.erf(x.sum()), tokens * 2


@emulated
@pytest.mark.parametrize("weights", ["inside", "beside"])
def test_arm_computes_what_eager_does(tmp_path, weights):
    options = {"triple": ARM, "compiler": (CROSS, "-static"), "emulator": (EMULATOR,), "weights": weights}
    for name, model, inputs in (
        ("mlp", mlp(), [torch.randn(3, 20)]),
        ("convnet", convnet(), [torch.randn(2, 3, 14, 14)]),
        ("mixed", Mixed().eval(), [torch.randint(0, 11, (4, 3)), torch.randn(2, 16)]),
    ):
        (tmp_path / name).mkdir()
        compare(model, inputs, tmp_path / name, **options)


@emulated
def test_shared_library_for_arm(tmp_path):
    made = native.export(mlp(), torch.randn(3, 20), tmp_path, name="net", shared=True, triple=ARM)
    assert struct.unpack_from("<H", made.library.read_bytes(), 18) == (183,)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["libnet.so", "net.h", "net.o"]


def test_names_of_processors_are_checked(tmp_path):
    for options, what in (({"triple": "z80-none-elf"}, "triple: expected"),
                          ({"triple": ARM, "cpu": "x86-64-v3"}, "level of x86-64"),
                          ({"triple": "x86_64-linux-gnu", "cpu": "cortex-a76"}, "cpu: expected")):
        with pytest.raises(ValueError, match=what):
            native.export(mlp(), torch.randn(3, 20), tmp_path, **options)
    with pytest.raises(RuntimeError, match="no C compiler here \\(arm64-apple-ios-gcc\\)"):
        native.export(mlp(), torch.randn(3, 20), tmp_path, shared=True, triple="arm64-apple-ios")
