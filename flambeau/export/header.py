"""The C header of an exported model."""

from __future__ import annotations

from typing import Any

import numpy as np

TYPES = {"float32": "float", "float64": "double", "int64": "int64_t", "int32": "int32_t", "int16": "int16_t",
         "int8": "int8_t", "uint8": "uint8_t", "bool": "uint8_t"}


def parameters(inputs: list[np.ndarray], outputs: list[Any], workspace: bool = False) -> str:
    """The parameters of `name_run`."""
    shown = ["void* workspace"] if workspace else []
    shown += [f"const {TYPES[a.dtype.name]}* {_named('x', i, len(inputs))}" for i, a in enumerate(inputs)]
    shown += [f"{TYPES[v.dtype.name]}* {_named('y', i, len(outputs))}" for i, v in enumerate(outputs)]
    return ", ".join(shown)


def _named(letter: str, number: int, count: int) -> str:
    return letter if count == 1 else f"{letter}{number}"


def sizes(prefix: str, what: str, shape: tuple[int, ...], dtype: np.dtype) -> list[str]:
    """The definitions that describe one tensor."""
    count = int(np.prod(shape, dtype=np.int64))
    lines = [f"#define {prefix}_{what}_DTYPE \"{dtype.name}\"", f"#define {prefix}_{what}_RANK {len(shape)}",
             f"#define {prefix}_{what}_SIZE {count}  /* elements */",
             f"#define {prefix}_{what}_BYTES {count * dtype.itemsize}"]
    if shape:
        lines.append(f"#define {prefix}_{what}_SHAPE {{{', '.join(map(str, shape))}}}")
    return lines


def header(name: str, inputs: list[np.ndarray], outputs: list[Any], workspace: int, weights: str | None) -> str:
    """The text. `weights`: the name of the file beside the code, if there is one."""
    prefix = name.upper()
    lines = [f"/* {name}: made by flambeau.export.native. Tensors are dense, the last dimension varies fastest. */",
             f"#ifndef {prefix}_H", f"#define {prefix}_H", "", "#include <stdint.h>", ""]
    lines += [f"#define {prefix}_INPUTS {len(inputs)}", f"#define {prefix}_OUTPUTS {len(outputs)}"]
    for kind, tensors in (("INPUT", inputs), ("OUTPUT", outputs)):
        for i, t in enumerate(tensors):
            lines += sizes(prefix, f"{kind}{i}", tuple(t.shape), t.dtype)
    lines += [f"#define {prefix}_WORKSPACE_BYTES {workspace}", "",
              f"#define {prefix}_OK 0",
              f"#define {prefix}_NO_WEIGHTS (-1)     /* not loaded; or the file is damaged, or of another build */",
              f"#define {prefix}_OUT_OF_BOUNDS (-2)  /* an input holds an index that the model has no entry for */",
              f"#define {prefix}_NO_MEMORY (-3)", "", "#ifdef __cplusplus", 'extern "C" {', "#endif", ""]
    if weights is not None:
        lines += [f"/* Read the weights ({weights}). Not while another thread runs the model. */",
                  f"int {name}_load(const char* path);", f"void {name}_unload(void);", ""]
    lines += ["/* Run the model. Any number of threads may call it: the first one finds memory ready, those that come",
              "   meanwhile allocate theirs. Returns 0, or one of the codes above. */",
              f"int {name}_run({parameters(inputs, outputs)});", "",
              f"/* The same in memory of the caller: {prefix}_WORKSPACE_BYTES bytes at a multiple of 64. */",
              f"int {name}_run_in({parameters(inputs, outputs, True)});", "",
              "#ifdef __cplusplus", "}", "#endif", "#endif", ""]
    return "\n".join(lines)
