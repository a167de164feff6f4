"""Parallel loops: every element once, whatever the threads; alone after a fork."""

import ctypes
import os
import signal

import numpy as np
import pytest
from llvmlite import ir

from flambeau.backends import threads as counts
from flambeau.backends.llvm import jit, runtime
from flambeau.backends.llvm import registers as reg


def counter(threads, grain):
    """A function (data, count) that adds 1 to each of `count` int64, divided among threads, and its code."""
    module = ir.Module()
    void = ir.VoidType()
    body = ir.Function(module, ir.FunctionType(void, [reg.pointer, reg.i64, reg.i64]), "body")
    data, begin, end = body.args
    builder = ir.IRBuilder(body.append_basic_block())
    before, head, done = builder.block, body.append_basic_block(), body.append_basic_block()
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(reg.i64)
    place = builder.gep(data, [index], source_etype=reg.i64)
    builder.store(builder.add(builder.load(place, typ=reg.i64), ir.Constant(reg.i64, 1)), place)
    following = builder.add(index, ir.Constant(reg.i64, 1))
    index.add_incoming(begin, before)
    index.add_incoming(following, head)
    builder.cbranch(builder.icmp_signed("<", following, end), head, done)
    builder.position_at_end(done)
    builder.ret_void()
    main = ir.Function(module, ir.FunctionType(void, [reg.pointer, reg.i64]), "main")
    builder = ir.IRBuilder(main.append_basic_block())
    with builder.if_then(builder.icmp_signed(">", main.args[1], ir.Constant(reg.i64, 0))):
        runtime.parallel_for(builder, body, *main.args, threads=threads, grain=grain)
    builder.ret_void()
    code = jit.compile_and_load(module, ["main"])
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address("main")), code


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("grain", [1, 16])
def test_every_element_is_visited_once(threads, grain):
    run, _code = counter(threads, grain)
    for count in (0, 1, 5, 15, 16, 17, 100, 1000):
        data = np.zeros(count + 64, np.int64)
        run(data.ctypes.data, count)
        assert (data[:count] == 1).all() and (data[count:] == 0).all()


def test_threads_follow_the_setting():
    run, _code = counter(0, 1)
    before = counts.get_num_threads()
    try:
        for threads in (1, 2, 4):
            counts.set_num_threads(threads)
            data = np.zeros(999, np.int64)
            run(data.ctypes.data, 999)
            assert (data == 1).all()
    finally:
        counts.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_computes_alone():
    run, _code = counter(2, 1)
    data = np.zeros(1000, np.int64)
    run(data.ctypes.data, 1000)  # the parent has its team of threads
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for threads forever would outlive the test
        run(data.ctypes.data, 1000)
        os._exit(0 if (data == 2).all() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
