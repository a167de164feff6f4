"""Compiling and loading: errors, life of the code, symbols, threads."""

import ctypes
import os
import signal
import threading
import weakref

import numpy as np
import pytest

from flambeau.backends.llvm import jit, symbols

SQUARE = "define i64 @square(i64 %x) {\n  %y = mul i64 %x, %x\n  ret i64 %y\n}"
CALLER = "declare i64 @helper(i64)\ndefine i64 @twice(i64 %x) {\n  %y = call i64 @helper(i64 %x)\n  ret i64 %y\n}"


def function(code, name):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address(name))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_compiles_and_runs(level):
    code = jit.compile_and_load(SQUARE, ["square"], level)
    assert function(code, "square")(7) == 49
    with pytest.raises(KeyError):
        code.address("cube")


def test_objects_are_bytes_that_load_any_number_of_times():
    made = jit.compile_module(SQUARE)
    assert isinstance(made, bytes) and len(made) < 5000
    codes = [jit.load_object(made, ["square"]) for _ in range(3)]
    assert [function(code, "square")(n) for n, code in enumerate(codes)] == [0, 1, 4]
    assert len({code.address("square") for code in codes}) == 3


def test_code_is_freed_with_its_last_reference():
    made = jit.compile_module(SQUARE)
    places = set()
    for _ in range(20):
        code = jit.load_object(made, ["square"])
        places.add(code.address("square"))
        alive = weakref.ref(code)
        del code
        assert alive() is None
    assert len(places) < 20  # memory is used again


def test_mistakes_are_runtime_errors():
    with pytest.raises(RuntimeError, match="expected"):
        jit.compile_module("define void @f( {")
    with pytest.raises(RuntimeError, match="invalid operand type"):
        jit.compile_module("define void @f() {\n  %x = add float 1.0, 2.0\n  ret void\n}")
    made = jit.compile_module(SQUARE)
    with pytest.raises(RuntimeError, match="cube"):
        jit.load_object(made, ["cube"])
    for damaged in (made[: len(made) // 2], b"no object" * 100):
        with pytest.raises(RuntimeError):
            jit.load_object(damaged, ["square"])
    with pytest.raises(RuntimeError, match=r"helper|twice"):
        jit.compile_and_load(CALLER, ["twice"])


def test_symbols_of_one_object():
    helpers = [ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x, k=k: k * x) for k in (2, 3)]
    made = jit.compile_module(CALLER)
    codes = [jit.load_object(made, ["twice"], {"helper": ctypes.cast(h, ctypes.c_void_p).value}) for h in helpers]
    assert [function(code, "twice")(10) for code in codes] == [20, 30]


def test_every_function_of_the_c_library_is_known():
    known = symbols.addresses()
    for name in ("tanhf", "pow", "lgamma", "nextafterf", "fmod", "memset"):
        assert known[name]


def test_compiles_on_several_threads():
    failures = []

    def work(number):
        text = SQUARE.replace("mul i64 %x, %x", f"mul i64 %x, {number}")
        for _ in range(5):
            code = jit.compile_and_load(text, ["square"])
            if function(code, "square")(3) != 3 * number:
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_during_a_compilation_can_compile():
    stop = threading.Event()

    def keep_compiling():
        while not stop.is_set():
            jit.compile_module(SQUARE)

    worker = threading.Thread(target=keep_compiling)
    worker.start()
    try:
        for _ in range(3):
            child = os.fork()
            if child == 0:
                signal.alarm(30)  # a child that waits for a lock forever would outlive the test
                code = jit.compile_and_load(SQUARE, ["square"])
                os._exit(0 if function(code, "square")(5) == 25 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        worker.join()


def test_the_host():
    host = jit.host()
    assert host.vector_bits in (128, 256, 512)
    assert jit.vector_lanes(np.float32) * 4 == jit.vector_lanes(np.float64) * 8 == host.vector_bits // 8
    assert "llvmlite" in host.identity and host.cpu and host.triple
    assert "mul" in jit.assembly(SQUARE)
