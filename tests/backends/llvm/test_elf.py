"""Loading object files without LLVM: relocations, protection, damage."""

import ctypes
import random

import pytest

from flambeau.backends.llvm import elf, jit

pytestmark = pytest.mark.skipif(not elf.usable(), reason="only Linux on x86-64 loads objects itself")

# A constant, a table of pointers, a variable, a function of the object, functions and data from outside.
MODULE = """
@numbers = internal constant [4 x double] [double 1.5, double 2.5, double 4.0, double 8.0], align 32
@table = internal constant [2 x ptr] [ptr @double_it, ptr @halve]
@count = internal global i64 40
@outside = external global i64
declare i64 @helper(i64)
declare ptr @memset(ptr, i32, i64)

define internal i64 @double_it(i64 %x) { %y = shl i64 %x, 1
  ret i64 %y }
define internal i64 @halve(i64 %x) { %y = ashr i64 %x, 1
  ret i64 %y }
define i64 @constant(i64 %i) { %p = getelementptr double, ptr @numbers, i64 %i
  %v = load double, ptr %p
  %d = fmul double %v, 100.0
  %r = fptosi double %d to i64
  ret i64 %r }
define i64 @through_table(i64 %i) { %p = getelementptr ptr, ptr @table, i64 %i
  %f = load ptr, ptr %p
  %r = call i64 %f(i64 10)
  ret i64 %r }
define i64 @counted(i64 %by) { %old = load i64, ptr @count
  %new = add i64 %old, %by
  store i64 %new, ptr @count
  ret i64 %new }
define i64 @calls(i64 %x) { %o = load i64, ptr @outside
  %h = call i64 @helper(i64 %x)
  %r = add i64 %h, %o
  ret i64 %r }
define i64 @address_of_helper(i64 %x) { %r = ptrtoint ptr @helper to i64
  ret i64 %r }
"""
NAMES = ["constant", "through_table", "counted", "calls", "address_of_helper"]


@pytest.fixture(scope="module")
def content():
    return jit.compile_module(MODULE)


def loaded(content):
    helper = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: 3 * x)
    outside = ctypes.c_int64(1000)
    places = {"helper": ctypes.cast(helper, ctypes.c_void_p).value, "outside": ctypes.addressof(outside)}
    code = jit.load_object(content, NAMES, places)
    return {name: ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address(name)) for name in NAMES}, (
        code,
        helper,
        outside,
        places,
    )


def test_every_kind_of_reference(content):
    call, kept = loaded(content)
    outside, places = kept[2:]
    assert [call["constant"](i) for i in range(4)] == [150, 250, 400, 800]
    assert [call["through_table"](i) for i in range(2)] == [20, 5]
    assert call["counted"](2) == 42 and call["counted"](0) == 42
    assert call["calls"](7) == 1021
    outside.value = 5
    assert call["calls"](7) == 26
    assert call["address_of_helper"](0) == places["helper"]


def test_each_image_has_variables_of_its_own(content):
    first, second = loaded(content), loaded(content)
    assert [image[0]["counted"](by) for image, by in ((first, 1), (second, 2), (first, 0))] == [41, 42, 41]


def test_nothing_can_be_written_and_run(content):
    _, (code, *_) = loaded(content)
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, rights = line.split()[:2]
            low, high = (int(part, 16) for part in span.split("-"))
            if low <= code.address("calls") < high:
                assert rights.startswith("r-x")
                return
    pytest.fail("the code is not in memory")


def test_memory_is_given_back(content):
    def mappings():
        with open("/proc/self/maps") as maps:
            return sum(1 for _ in maps)

    before = mappings()
    for _ in range(50):
        loaded(content)
    assert mappings() < before + 20


def test_undefined_symbols_are_named(content):
    with pytest.raises(RuntimeError, match=r"helper|outside"):
        jit.load_object(content, NAMES)


def test_damaged_files_do_not_get_far(content):
    """Any byte of the tables may be wrong: an error, or an image whose code nobody has called."""
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(4):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        try:
            jit.load_object(bytes(damaged), ["constant"], {"helper": 1, "outside": 1})
        except RuntimeError:
            refused += 1
        except MemoryError:
            pytest.fail("a damaged size was believed")
    assert refused > 10
    for size in (0, 10, 64, len(content) // 2, len(content) - 1):
        with pytest.raises(RuntimeError):
            jit.load_object(content[:size], ["constant"])
