"""A oneDNN primitive ready to run on pointers, and the bounded cache of them.

The path per call is short on purpose: look up by shapes, set one handle per argument, execute.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from ctypes import byref, c_void_p
from typing import Any

import numpy as np

from flambeau.backends import threads
from flambeau.backends.onednn import library as lib
from flambeau.backends.onednn.memory import described, equal, loaded, pointer, size_of

_local = threading.local()
_ALIGNMENT = 64


class Unsupported(RuntimeError):
    """oneDNN has no (fast) kernel for these shapes; the op's own body should run."""


class Workspace:
    """Memory for reordered operands during one call: `with Workspace() as space: space.take(converter, array)`.

    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: list[np.ndarray] = []

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.clear()

    def reserve(self, size: int) -> int:
        """Address of `size` bytes."""
        buffer = np.empty(size + _ALIGNMENT, np.uint8)
        self._held.append(buffer)
        return -(-pointer(buffer) // _ALIGNMENT) * _ALIGNMENT

    def hold(self, array: np.ndarray) -> int:
        """Address of an array, which stays alive until the end of the call."""
        self._held.append(array)
        return pointer(array)

    def take(self, converter: Converter | None, array: np.ndarray) -> int:
        """Address of the array's values in the order the primitive wants: its own memory if no converter is needed."""
        if converter is None:
            return self.hold(array)
        address = self.reserve(converter.size)
        converter.run(pointer(array), address)
        return address


def scratchpad(size: int) -> int:
    """Address of at least `size` bytes that stay ours until the next call on this thread."""
    buffer = getattr(_local, "buffer", None)
    if buffer is None or buffer.nbytes < size + _ALIGNMENT:
        buffer = _local.buffer = np.empty(size + _ALIGNMENT, np.uint8)
        _local.address = -(-pointer(buffer) // _ALIGNMENT) * _ALIGNMENT
    return int(_local.address)


class Primitive:
    """A primitive with its memory objects; `run(*addresses)` sets them in the order of `arguments` and executes."""

    __slots__ = ("name", "descriptions", "_description", "_handle", "_memories", "_arguments", "_count", "_scratch",
                 "_scratch_memory", "_lock", "_execute", "_set", "_stream", "_library", "_hint")

    def __init__(self, name: str, create: Sequence[Any], arguments: Sequence[int], hint: Primitive | None = None,
                 post_ops: PostOps | None = None):
        """Create `dnnl_<name>_primitive_desc_create(…, *create)`.

        `arguments` are the DNNL_ARG numbers in the order `run` takes addresses. Raises OneDNNError if the library
        has no implementation.
        """
        library = self._library = loaded()
        self.name = name
        self._hint = hint  # a backward descriptor refers to its forward one
        self._description = description_of(name, create, hint, post_ops)
        self._handle = c_void_p()
        library.call("dnnl_primitive_create", byref(self._handle), self._description)
        scratch = self.query(lib.QUERY_SCRATCHPAD_MD, 0)
        self._scratch = size_of(scratch) if scratch else 0
        numbers = [*arguments, lib.ARG_SCRATCHPAD] if self._scratch else [*arguments]
        self.descriptions = {number: self.query(lib.QUERY_EXEC_ARG_MD, number) for number in arguments}
        self._arguments = (lib.ExecArg * len(numbers))()
        self._memories: list[c_void_p] = []
        for slot, number in zip(self._arguments, numbers):
            md = scratch if number == lib.ARG_SCRATCHPAD else self.descriptions[number]
            memory = c_void_p()
            library.call("dnnl_memory_create", byref(memory), md, library.engine, None)
            self._memories.append(memory)
            slot.arg, slot.memory = number, memory
        self._scratch_memory = self._memories.pop() if self._scratch else None
        self._count = len(numbers)
        self._lock = threading.Lock()
        self._execute = library.dll.dnnl_primitive_execute
        self._set = library.dll.dnnl_memory_set_data_handle
        self._stream = library.stream

    def query(self, what: int, index: int) -> c_void_p:
        """A memory descriptor of the primitive; it stays owned by it. Null where the argument is not used."""
        return c_void_p(self._library.dll.dnnl_primitive_desc_query_md(self._description, what, index))

    @property
    def implementation(self) -> str:
        """The kernel oneDNN chose."""
        return str(self._library.implementation(self._description))

    # What native code needs to run the primitive by itself: `dnnl_memory_set_data_handle` for each of `memories`, then
    # `dnnl_primitive_execute(handle, stream, count, exec_arguments)`.

    @property
    def handle(self) -> int:
        """The dnnl_primitive_t."""
        return int(self._handle.value or 0)

    @property
    def stream(self) -> int:
        """The dnnl_stream_t to execute on."""
        return int(self._stream.value or 0)

    @property
    def arguments(self) -> tuple[int, ...]:
        """The DNNL_ARG number of each argument; the scratchpad's, if there is one, comes last."""
        return tuple(slot.arg for slot in self._arguments)

    @property
    def memories(self) -> tuple[int, ...]:
        """The dnnl_memory_t of each argument, in the order of `arguments`."""
        return tuple(int(slot.memory) for slot in self._arguments)

    @property
    def exec_arguments(self) -> int:
        """The address of the dnnl_exec_arg_t array, which has `count` entries."""
        return ctypes.addressof(self._arguments)

    @property
    def count(self) -> int:
        """How many arguments there are, with the scratchpad."""
        return self._count

    @property
    def scratchpad(self) -> int:
        """Bytes of the scratchpad; 0: there is none."""
        return self._scratch

    def size(self, argument: int) -> int:
        """Bytes of one argument."""
        return size_of(self.descriptions[argument])

    def run(self, *addresses: int) -> None:
        """Execute on these addresses."""
        if threads.stale():
            threads.apply()
        put = self._set
        with self._lock:
            for memory, address in zip(self._memories, addresses):
                put(memory, address)
            if self._scratch:
                put(self._scratch_memory, scratchpad(self._scratch))
            status = self._execute(self._handle, self._stream, self._count, self._arguments)
        if status:
            raise lib.OneDNNError(self.name, status)

    def __del__(self) -> None:
        dll = self._library.dll if hasattr(self, "_library") else None
        if dll is None or dll.dnnl_memory_destroy is None:
            return
        memories = [*getattr(self, "_memories", ()), getattr(self, "_scratch_memory", None)]
        for memory in memories:
            if memory:
                dll.dnnl_memory_destroy(memory)
        if getattr(self, "_handle", None):
            dll.dnnl_primitive_destroy(self._handle)
        if getattr(self, "_description", None):
            dll.dnnl_primitive_desc_destroy(self._description)


class PostOps:
    """What a primitive does to its result before it stores it: a chain of functions and of sums with other arrays.

    `arguments` are the DNNL_ARG numbers of the arrays it reads, in order.
    """

    def __init__(self) -> None:
        self._library = loaded()
        self._chain = c_void_p()
        self._library.call("dnnl_post_ops_create", byref(self._chain))
        self._length = 0
        self.arguments: list[int] = []

    @classmethod
    def of(cls, chain: Sequence[tuple[Any, ...]], others: Sequence[c_void_p]) -> PostOps:
        """The chain of ("add",) and ("mul",), each with the next of the arrays `others`, ("relu",), which takes an
        array of one 0 from `others`, and (other elementwise function, alpha).
        """
        from flambeau.backends.onednn.elementwise import algorithm

        found, arrays = cls(), iter(others)
        for name, *parameters in chain:
            if name == "relu":
                next(arrays)
                found.prelu()
            elif name in ("add", "mul"):
                found.binary(lib.BINARY_ADD if name == "add" else lib.BINARY_MUL, next(arrays))
            else:
                found.eltwise(*algorithm(name, *parameters))
        return found

    def eltwise(self, algorithm: int, alpha: float = 0.0, beta: float = 0.0) -> PostOps:
        """Then apply an elementwise function."""
        self._library.call("dnnl_post_ops_append_eltwise", self._chain, algorithm, alpha, beta)
        self._length += 1
        return self

    def binary(self, algorithm: int, other: c_void_p) -> PostOps:
        """Then combine with another array, given by its descriptor; sizes of 1 are broadcast."""
        self._library.call("dnnl_post_ops_append_binary", self._chain, algorithm, other)
        self.arguments.append(lib.ARG_POST_OP * (self._length + 1) | lib.ARG_SRC_1)
        self._length += 1
        return self

    def prelu(self) -> PostOps:
        """Then multiply what is not above zero by the single number in an array of one element; nan stays nan."""
        self._library.call("dnnl_post_ops_append_prelu", self._chain, 0)
        self.arguments.append(lib.ARG_POST_OP * (self._length + 1) | lib.ARG_WEIGHTS)
        self._length += 1
        return self

    def add_to_target(self) -> PostOps:
        """Then add what the target's memory held before."""
        self._library.call("dnnl_post_ops_append_sum", self._chain, 1.0, 0, lib.F32)
        self._length += 1
        return self

    def attributes(self) -> c_void_p:
        """A new dnnl_primitive_attr_t with this chain; whoever asks destroys it."""
        out = c_void_p()
        self._library.call("dnnl_primitive_attr_create", byref(out))
        self._library.call("dnnl_primitive_attr_set_scratchpad_mode", out, lib.SCRATCHPAD_USER)
        self._library.call("dnnl_primitive_attr_set_post_ops", out, self._chain)
        return out

    def __del__(self) -> None:
        dll = self._library.dll if hasattr(self, "_library") else None
        if dll is not None and dll.dnnl_post_ops_destroy is not None and self._chain:
            dll.dnnl_post_ops_destroy(self._chain)


def description_of(name: str, create: Sequence[Any], hint: Primitive | None = None,
                   post_ops: PostOps | None = None) -> c_void_p:
    """A primitive descriptor; backward ones get the forward descriptor as hint."""
    library = loaded()
    attributes = library.attributes if post_ops is None else post_ops.attributes()
    try:
        return _described(library, name, create, hint, attributes)
    finally:
        if post_ops is not None:
            library.dll.dnnl_primitive_attr_destroy(attributes)


def _described(library: Any, name: str, create: Sequence[Any], hint: Primitive | None,
               attributes: c_void_p) -> c_void_p:
    out = c_void_p()
    tail = [attributes] if hint is None else [hint._description, attributes]
    if name == "reorder":
        source, target = create
        library.call("dnnl_reorder_primitive_desc_create", byref(out), source, library.engine, target, library.engine,
                     *tail)
    else:
        library.call(f"dnnl_{name}_primitive_desc_create", byref(out), library.engine, *create, *tail)
    return out


class Converter:
    """A reorder between the caller's layout of an argument and the one a primitive wants."""

    __slots__ = ("run", "size", "_primitive", "__weakref__")

    def __init__(self, source: c_void_p, target: c_void_p, size: int):
        self._primitive = Primitive("reorder", [source, target], [lib.ARG_SRC, lib.ARG_DST])
        self.run = self._primitive.run
        self.size = size

    @classmethod
    def between(cls, shape: tuple[int, ...], from_last: bool, to_last: bool) -> Converter | None:
        """From one of the two plain orders to the other; None if they are the same memory."""
        source, target = described(shape, from_last), described(shape, to_last)
        return None if equal(source, target) else cls(source, target, size_of(target))

    @classmethod
    def into(cls, primitive: Primitive, argument: int, given: c_void_p) -> Converter | None:
        """From the caller's layout to the primitive's; None if they are the same."""
        wanted = primitive.descriptions[argument]
        return None if equal(given, wanted) else cls(given, wanted, size_of(wanted))

    @classmethod
    def out_of(cls, primitive: Primitive, argument: int, wanted: c_void_p) -> Converter | None:
        """From the primitive's layout to the caller's; `size` is that of the primitive's."""
        made = primitive.descriptions[argument]
        return None if equal(made, wanted) else cls(made, wanted, size_of(made))


class Cache:
    """A dictionary from a call's signature to what was built for it; the oldest entry leaves when it is full.

    Primitives divide their work when they are built, so a new number of threads empties it. What could not be built
    is remembered too.
    """

    def __init__(self, build: Callable[..., Any], capacity: int = 512):
        self.build = build
        self.capacity = capacity
        self.entries: dict[Any, Any] = {}
        self.generation = threads.generation
        self.lock = threading.Lock()

    def __call__(self, *key: Any) -> Any:
        if self.generation != threads.generation:
            self.entries = {}
            self.generation = threads.generation
        try:
            made = self.entries[key]
        except KeyError:
            made = self._add(key)
        if type(made) is Unsupported:
            raise Unsupported(str(made))
        return made

    def _add(self, key: Any) -> Any:
        if threads.stale():
            threads.apply()
        try:
            made = self.build(*key)
        except (lib.OneDNNError, Unsupported) as error:
            made = Unsupported(str(error))
        with self.lock:
            if len(self.entries) >= self.capacity:
                self.entries.pop(next(iter(self.entries)))
            self.entries[key] = made
        return made
