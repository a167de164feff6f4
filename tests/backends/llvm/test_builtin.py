"""Generated code as builtins of the interpreter: calls, reference counts, reading arrays and tensors."""

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
from llvmlite import ir

import flambeau as torch
from flambeau.backends.llvm import builtin, jit
from flambeau.backends.llvm import registers as reg
from flambeau.core.tensor import Tensor

pytestmark = pytest.mark.skipif(not builtin.supported(), reason="not an interpreter whose objects we can read")
MAKERS = [builtin.make_builtin, builtin.through_ctypes]


def compiled(write):
    module = ir.Module()
    function = ir.Function(module, builtin.FUNCTION_TYPE, "main")
    builder = ir.IRBuilder(function.append_basic_block())
    write(builder, *function.args)
    return jit.compile_and_load(module, ["main"])


def native(write, maker=builtin.make_builtin):
    code = compiled(write)
    return maker(code.address("main"), code)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("value", [None, True, False, NotImplemented])
def test_returns_constants_with_a_reference(maker, value):
    run = native(lambda builder, self, arguments, count: builtin.return_object(builder, value), maker)
    before = sys.getrefcount(value)
    kept = [run() for _ in range(1000)]
    assert all(item is value for item in kept)
    grown = sys.getrefcount(value) - before
    assert grown in range(900, 1100) or sys.version_info >= (3, 12)  # these objects are immortal there
    del kept
    assert abs(sys.getrefcount(value) - before) < 50


@pytest.mark.parametrize("maker", MAKERS)
def test_returns_its_arguments(maker):
    run = native(lambda b, self, arguments, count: builtin.return_object(b, builtin.argument(b, arguments, 1)), maker)
    given = object()
    before = sys.getrefcount(given)
    assert run(None, given) is given
    assert sys.getrefcount(given) == before


def test_code_lives_as_long_as_the_function():
    code = compiled(lambda builder, self, arguments, count: builtin.return_object(builder, None))
    run = builtin.make_builtin(code.address("main"), code, "some_name")
    alive = weakref.ref(code)
    del code
    gc.collect()
    assert run() is None and alive() is not None
    assert run.__name__ == "some_name"
    del run
    gc.collect()
    assert alive() is None


def read_array(builder, array):
    words = [
        builder.ptrtoint(builtin.array_data(builder, array), reg.i64),
        builder.sext(builtin.array_ndim(builder, array), reg.i64),
        builder.ptrtoint(builtin.array_descr(builder, array), reg.i64),
        builder.sext(builtin.array_flags(builder, array), reg.i64),
        builder.ptrtoint(builtin.type_of(builder, array), reg.i64),
        *(part(builder, array, dim) for dim in (0, 1) for part in (builtin.array_size, builtin.array_stride)),
    ]
    return words


def write_words(builder, words, target):
    data = builtin.array_data(builder, target)
    for number, word in enumerate(words):
        builder.store(word, builder.gep(data, [ir.Constant(reg.i64, number)], source_etype=reg.i64))
    builtin.return_object(builder, None)


@pytest.mark.parametrize("array", [
    np.zeros((3, 5), np.float32), np.zeros((5, 3), np.float64).T, np.zeros((4, 9), np.int8)[1:3, ::2],
    np.zeros((0, 2), np.float16), np.broadcast_to(np.zeros(3), (2, 3)),
], ids=["plain", "transposed", "sliced", "empty", "broadcast"])  # fmt: skip
def test_reads_arrays(array):
    def write(builder, self, arguments, count):
        words = read_array(builder, builtin.argument(builder, arguments, 0))
        write_words(builder, words, builtin.argument(builder, arguments, 1))

    found = np.zeros(9, np.int64)
    native(write)(array, found)
    expected = [array.ctypes.data, 2, id(array.dtype), array.flags.num, id(np.ndarray), array.shape[0],
                array.strides[0], array.shape[1], array.strides[1]]  # fmt: skip
    assert found.tolist() == expected


@pytest.mark.parametrize("maker", MAKERS)
def test_reads_tensors(maker):
    def write(builder, self, arguments, count):
        tensor = builtin.argument(builder, arguments, 0)
        array = builtin.slot(builder, tensor, Tensor, "_array")
        words = [builtin.array_data(builder, array), builtin.type_of(builder, tensor), array]
        words = [builder.ptrtoint(word, reg.i64) for word in words]
        words.append(builder.sext(builtin.reference_count(builder, array), reg.i64))
        write_words(builder, words, builtin.argument(builder, arguments, 1))

    run = native(write, maker)
    found = np.zeros(4, np.int64)
    for tensor in (torch.zeros(3, 4), torch.nn.Parameter(torch.ones(2)), torch.zeros(())):
        run(tensor, found)
        array = tensor._array
        assert found.tolist()[:3] == [array.ctypes.data, id(type(tensor)), id(array)]
        assert found[3] == sys.getrefcount(array) - 2  # without `array` and the argument of getrefcount


def test_only_slots_have_offsets():
    class Plain:
        pass

    with pytest.raises(TypeError, match="no slot named x"):
        builtin.slot_offset(Plain, "x")
    with pytest.raises(TypeError, match="no slot named shape"):
        builtin.slot_offset(Tensor, "shape")


def test_other_threads_run_while_the_lock_is_released():
    def write(builder, self, arguments, count):
        with builtin.without_lock(builder):
            pass
        builtin.return_object(builder, True)

    run = native(write)
    done = []
    workers = [threading.Thread(target=lambda: done.extend(run() for _ in range(200))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert done == [True] * 800
