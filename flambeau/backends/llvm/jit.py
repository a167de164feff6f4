"""Machine code at run time: the one place that asks LLVM for it and puts it into memory.

`compile_module` and `Compilation` make object files (bytes, which can be kept on disk), `load_object` puts one into
memory as a `Code`, whose functions live as long as it does. All may be called from any thread. On Linux with x86-64
this process does without LLVM: others run it (workers.py), and objects are loaded here (elf.py).
"""

from __future__ import annotations

import functools
import itertools
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flambeau.backends.llvm import elf
from flambeau.backends.llvm import symbols as known
from flambeau.core.digest import blake2b


class Host:
    """The processor we make code for."""

    def __init__(self) -> None:
        read = _read_processor()
        if read is None:
            facts = self._facts
            self.identity, self.triple = f"{facts['triple']} {facts['cpu']} {facts['features']}", facts["triple"]
            self.vector_bits, self.has_fma = facts["vector_bits"], facts["has_fma"]
        else:
            self.identity, flags = read
            self.triple = "x86_64-unknown-linux-gnu"
            # 512 bits from the first processors on which they are no slower per element (codegen.FAST_512)
            wide = {"avx512f", "avx512vl", "avx512_vbmi2"} <= flags
            self.vector_bits = 512 if wide else 256 if "avx2" in flags else 128
            self.has_fma = "fma" in flags
        self.identity += f" llvmlite {_llvmlite_version()}"

    @functools.cached_property
    def _facts(self) -> dict[str, Any]:
        from flambeau.backends.llvm import codegen

        return codegen.host()

    @property
    def cpu(self) -> str:
        """LLVM's name of the processor (loads LLVM)."""
        return str(self._facts["cpu"])

    @property
    def features(self) -> str:
        """LLVM's names of what it can do (loads LLVM)."""
        return str(self._facts["features"])


def _read_processor() -> tuple[str, set[str]] | None:
    """What Linux tells of an x86-64 processor, and its flags: quicker than asking LLVM, which must be loaded for it."""
    if not elf.usable():
        return None
    with open("/proc/cpuinfo", "rb") as file:
        first = file.read(1 << 14).partition(b"\n\n")[0].decode()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    if "flags" not in facts:
        return None
    named = " ".join(facts.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping"))
    digest = blake2b(facts["flags"].encode(), digest_size=8).hexdigest()
    return f"{platform.machine()} {named} {facts.get('model name', '')} {digest}", set(facts["flags"].split())


def _llvmlite_version() -> str:
    import llvmlite  # its version only: nothing of LLVM is loaded

    return str(llvmlite.__version__)


@functools.cache
def host() -> Host:
    """The processor this process runs on."""
    return Host()


def vector_lanes(dtype: Any) -> int:
    """How many elements of this dtype the widest good vector holds (a bool counts as a byte)."""
    return host().vector_bits // (8 * np.dtype(dtype).itemsize)


# ---- compiling -------------------------------------------------------------------------------------


def compile_module(module: Any, level: int = 1, machine: Any = None) -> bytes:
    """The object file of an llvmlite module or IR text, for `machine` (of LLVM) or this processor.

    `level` 1 inlines what asks for it and cleans up: enough for code that is written as it should run. 2 adds LLVM's
    own loop passes (invariants, unrolling, vectors), at several times the price; 0 is for code that runs seldom.
    Raises: RuntimeError with LLVM's message if the IR is malformed.
    """
    from flambeau.backends.llvm import workers  # not for those who find their code in the cache

    if machine is None and workers.usable():
        batch = workers.Batch(level, 1)
        batch.add(str(module))
        return batch.objects()[0]
    from flambeau.backends.llvm import codegen

    return bytes(codegen.generate(str(module), level, "emit_object", machine))


def assembly(module: Any, level: int = 1) -> str:
    """The assembly text of a module, for reading (loads LLVM)."""
    from flambeau.backends.llvm import codegen

    return str(codegen.generate(str(module), level, "emit_assembly"))


class Compilation:
    """A module that is compiled in parts while functions are still being added to it.

    `take(names)` sends the functions of these names off, with what they refer to; `objects()` waits for all: pairs of
    an object file and the names in it. Functions that `take` named must not change afterwards.
    """

    def __init__(self, module: Any, functions: int):
        """`functions`: how many there will be, about."""
        from flambeau.backends.llvm import workers

        self.module = module
        self.names: list[list[str]] = []
        self.taken: set[str] = set()
        self.texts: dict[str, str] = {}
        self.batch = workers.Batch(1, -(-functions // PART)) if workers.usable() else None
        self.made: list[bytes] = []

    def take(self, names: Iterable[str]) -> None:
        """Compile these, unless they were taken before."""
        fresh = [name for name in dict.fromkeys(names) if name not in self.taken]
        if not fresh:
            return
        self.taken.update(fresh)
        self.names.append(fresh)
        parts = [f'target triple = "{self.module.triple}"', *self._closure(fresh), *map(str, self.module.metadata)]
        text = "\n".join(parts)
        if self.batch is None:
            self.made.append(compile_module(text))
        else:
            self.batch.add(text)

    def objects(self) -> list[tuple[bytes, list[str]]]:
        """The object files. Raises: RuntimeError with LLVM's message if the IR is malformed."""
        made = self.made if self.batch is None else self.batch.objects()
        return list(zip(made, self.names))

    def close(self) -> None:
        """Let the processes go; needed when `objects` is not reached."""
        if self.batch is not None:
            self.batch.close()

    def _closure(self, names: list[str]) -> Iterable[str]:
        """The texts of these globals and of all they refer to, which stays inside this part."""
        pending, seen = list(names), set(names)
        while pending:
            name = pending.pop()
            value = self.module.globals[name]
            text = None if name in names else self.texts.get(name)
            if text is None:
                if name in self.taken and name not in names:
                    value.linkage = "internal"
                text = self.texts[name] = str(value)
            yield text
            for found in _REFERENCE.findall(text):
                if found not in seen and found in self.module.globals:
                    seen.add(found)
                    pending.append(found)


PART = 12  # functions that are compiled together: enough to outweigh the helpers they share
_REFERENCE = re.compile(r'@"([^"]+)"')


# ---- loading ---------------------------------------------------------------------------------------


class Code:
    """Machine code in memory; freed when nothing refers to it any more."""

    def __init__(self, found: Mapping[str, int], owner: Any, size: int):
        self._found = found
        self._owner = owner
        self.size = size

    def address(self, name: str) -> int:
        """The address of a function. KeyError if it was not asked for when the object was loaded."""
        return self._found[name]


def load_object(object_file: bytes, names: Iterable[str], symbols: Mapping[str, int] | None = None) -> Code:
    """Put an object file into memory; `names` are the functions whose addresses will be asked for.

    `symbols` are addresses for this object only, by the names it declares (functions or data), beside those of
    symbols.py: what differs from process to process goes there, so that the object can be kept on disk.

    Raises: RuntimeError if the object is damaged, lacks one of the names, or calls functions nobody knows.
    """
    names = list(names)
    addresses = {**known.addresses(), **(symbols or {})}
    owner = _load(object_file, addresses) if elf.usable() else _link(object_file, names, addresses)
    try:
        return Code({name: owner[name] for name in names}, owner, len(object_file))
    except KeyError as error:
        raise RuntimeError(f"the object does not define {error}") from error


def _load(object_file: bytes, addresses: Mapping[str, int]) -> Any:
    return elf.Image(object_file, lambda name: addresses.get(name) or elf.in_process(name))


def _link(object_file: bytes, names: list[str], addresses: Mapping[str, int]) -> Any:
    """Let LLVM do it."""
    import llvmlite.binding as llvm

    from flambeau.backends.llvm import codegen

    with codegen.lock:
        linker = _linker()
        library = llvm.JITLibraryBuilder().add_object_img(object_file).add_current_process()
        for name, address in addresses.items():
            library.import_symbol(name, address)
        for name in names:
            library.export_symbol(name)
        return library.link(linker, f"flambeau{next(_numbers)}")


@functools.cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    from flambeau.backends.llvm import codegen

    # JITLink lays out an object in one piece, so that code always reaches its constants.
    return llvm.create_lljit_compiler(codegen.machine(), use_jit_link=sys.platform != "win32")


_numbers = itertools.count()


def compile_and_load(module: Any, names: Iterable[str], level: int = 1) -> Code:
    """`compile_module` and `load_object` in one."""
    return load_object(compile_module(module, level), names)
