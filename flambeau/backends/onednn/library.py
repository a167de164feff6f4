"""The oneDNN shared library: finding it, its C functions, its constants, and the one engine and stream we use.

Nothing is loaded at import. Source of names, values and signatures: oneAPI oneDNN 3.2, `dnnl.h` and `dnnl_types.h`
(Apache License 2.0).
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_float, c_int, c_int64, c_uint, c_void_p
from pathlib import Path
from typing import Any

from flambeau.backends.allocation import keep_freed_memory

MAX_DIMS = 12
Dims = c_int64 * MAX_DIMS

# dnnl_status_t
SUCCESS, UNIMPLEMENTED = 0, 3
STATUS = {1: "out of memory", 2: "invalid arguments", 3: "not implemented", 4: "last implementation reached",
          5: "runtime error", 6: "not required"}

# dnnl_data_type_t, dnnl_format_tag_t
F32, S32, S8, U8 = 3, 4, 5, 6
ANY = 1

# dnnl_prop_kind_t
FORWARD_TRAINING, FORWARD_INFERENCE, BACKWARD, BACKWARD_DATA = 64, 96, 128, 160

# dnnl_alg_kind_t
CONVOLUTION_DIRECT = 1
POOLING_MAX, POOLING_AVG_INCLUDE_PADDING, POOLING_AVG_EXCLUDE_PADDING = 0x1FF, 0x2FF, 0x3FF
ELTWISE_RELU, ELTWISE_TANH, ELTWISE_ELU, ELTWISE_LOGISTIC, ELTWISE_EXP = 0x20, 0x21, 0x22, 0x29, 0x2A
ELTWISE_GELU_TANH, ELTWISE_SWISH, ELTWISE_GELU_ERF, ELTWISE_MISH = 0x2B, 0x2C, 0x31, 0x33
ELTWISE_SOFT_RELU = 0x27
ELTWISE_RELU_FROM_DST, ELTWISE_TANH_FROM_DST = 0x100, 0x101
ELTWISE_LOGISTIC_FROM_DST, ELTWISE_EXP_FROM_DST = 0x104, 0x105
BINARY_ADD, BINARY_MUL, BINARY_MAX, BINARY_MIN, BINARY_DIV, BINARY_SUB = (0x1FFF0 + i for i in range(6))
SOFTMAX_ACCURATE, SOFTMAX_LOG = 0x30000, 0x30001

# dnnl_normalization_flags_t
USE_GLOBAL_STATS, USE_SCALE, USE_SHIFT, FUSE_RELU = 1, 2, 4, 8

# DNNL_ARG_*
ARG_SRC, ARG_SRC_1, ARG_DST, ARG_WEIGHTS, ARG_BIAS, ARG_MEAN, ARG_VARIANCE = 1, 2, 17, 33, 41, 49, 50
ARG_SCALE, ARG_SHIFT, ARG_WORKSPACE, ARG_SCRATCHPAD = 51, 52, 64, 80
ARG_DIFF_SRC, ARG_DIFF_DST, ARG_DIFF_WEIGHTS, ARG_DIFF_BIAS = 129, 145, 161, 169
ARG_DIFF_SCALE, ARG_DIFF_SHIFT = 255, 256
ARG_MULTIPLE_SRC = 1024
ARG_POST_OP = 32768  # of post-op number i: ARG_POST_OP * (i + 1) | which of its arguments

# dnnl_query_t
QUERY_IMPLEMENTATION, QUERY_STRIDES, QUERY_EXEC_ARG_MD = 8, 14, 255
QUERY_SCRATCHPAD_MD, QUERY_WORKSPACE_MD = 136, 135
QUERY_DATA_TYPE, QUERY_INNER_BLOCKS = 258, 263

SCRATCHPAD_USER = 1
AVX512 = 0x20  # in dnnl_cpu_isa_t


class OneDNNError(RuntimeError):
    """A oneDNN call failed; `status` is its dnnl_status_t."""

    def __init__(self, call: str, status: int):
        super().__init__(f"oneDNN: {call}: {STATUS.get(status, status)}")
        self.status = status


class ExecArg(Structure):
    """dnnl_exec_arg_t: which argument, and its memory object."""

    _fields_ = [("arg", c_int), ("memory", c_void_p)]


_P = c_void_p
_D = POINTER(c_int64)
_CREATE: dict[str, list[Any]] = {  # after (primitive_desc*, engine); the attributes come last
    "convolution_forward": [c_int, c_int, _P, _P, _P, _P, _D, _D, _D, _D, _P],
    "convolution_backward_data": [c_int, _P, _P, _P, _D, _D, _D, _D, _P, _P],
    "convolution_backward_weights": [c_int, _P, _P, _P, _P, _D, _D, _D, _D, _P, _P],
    "pooling_forward": [c_int, c_int, _P, _P, _D, _D, _D, _D, _D, _P],
    "pooling_backward": [c_int, _P, _P, _D, _D, _D, _D, _D, _P, _P],
    "batch_normalization_forward": [c_int, _P, _P, c_float, c_uint, _P],
    "batch_normalization_backward": [c_int, _P, _P, _P, c_float, c_uint, _P, _P],
    "layer_normalization_forward": [c_int, _P, _P, _P, c_float, c_uint, _P],
    "layer_normalization_backward": [c_int, _P, _P, _P, _P, c_float, c_uint, _P, _P],
    "eltwise_forward": [c_int, c_int, _P, _P, c_float, c_float, _P],
    "eltwise_backward": [c_int, _P, _P, _P, c_float, c_float, _P, _P],
    "softmax_forward": [c_int, c_int, _P, _P, c_int, _P],
    "softmax_backward": [c_int, _P, _P, _P, c_int, _P, _P],
    "matmul": [_P, _P, _P, _P, _P],
    "inner_product_forward": [c_int, _P, _P, _P, _P, _P],
    "binary": [c_int, _P, _P, _P, _P],
}
_FUNCTIONS: dict[str, list[Any]] = {
    "dnnl_engine_create": [_P, c_int, ctypes.c_size_t],
    "dnnl_stream_create": [_P, _P, c_uint],
    "dnnl_primitive_attr_create": [_P],
    "dnnl_primitive_attr_set_scratchpad_mode": [_P, c_int],
    "dnnl_primitive_attr_destroy": [_P],
    "dnnl_primitive_attr_set_post_ops": [_P, _P],
    "dnnl_post_ops_create": [_P],
    "dnnl_post_ops_destroy": [_P],
    "dnnl_post_ops_append_sum": [_P, c_float, ctypes.c_int32, c_int],
    "dnnl_post_ops_append_eltwise": [_P, c_int, c_float, c_float],
    "dnnl_post_ops_append_binary": [_P, c_int, _P],
    "dnnl_post_ops_append_prelu": [_P, c_int],
    "dnnl_memory_desc_create_with_strides": [_P, c_int, _D, c_int, _D],
    "dnnl_memory_desc_create_with_tag": [_P, c_int, _D, c_int, c_int],
    "dnnl_memory_desc_clone": [_P, _P],
    "dnnl_memory_desc_destroy": [_P],
    "dnnl_memory_desc_query": [_P, c_int, _P],
    "dnnl_memory_create": [_P, _P, _P, _P],
    "dnnl_memory_destroy": [_P],
    "dnnl_memory_set_data_handle": [_P, _P],
    "dnnl_primitive_desc_query": [_P, c_int, c_int, _P],
    "dnnl_primitive_desc_destroy": [_P],
    "dnnl_primitive_create": [_P, _P],
    "dnnl_primitive_destroy": [_P],
    "dnnl_primitive_execute": [_P, _P, c_int, _P],
    "dnnl_reorder_primitive_desc_create": [_P, _P, _P, _P, _P, _P],
    "dnnl_sum_primitive_desc_create": [_P, _P, _P, c_int, POINTER(c_float), POINTER(c_void_p), _P],
    "dnnl_sgemm": [ctypes.c_char, ctypes.c_char, c_int64, c_int64, c_int64, c_float, _P, c_int64, _P, c_int64, c_float,
                   _P, c_int64],
}


class Library:
    """The loaded library with its CPU engine, stream and the attributes every primitive gets."""

    def __init__(self, path: str):
        self.path = path
        self.dll = ctypes.CDLL(path)
        for name, arguments in _FUNCTIONS.items():
            self._declare(name, arguments)
        for name, arguments in _CREATE.items():
            self._declare(f"dnnl_{name}_primitive_desc_create", [_P, _P, *arguments])
        self.dll.dnnl_memory_desc_get_size.argtypes = [_P]
        self.dll.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self.dll.dnnl_memory_desc_equal.argtypes = [_P, _P]
        self.dll.dnnl_primitive_desc_query_md.argtypes = [_P, c_int, c_int]
        self.dll.dnnl_primitive_desc_query_md.restype = _P
        self.has_avx512 = bool(self.dll.dnnl_get_effective_cpu_isa() & AVX512)
        self.engine, self.stream = c_void_p(), c_void_p()
        self.call("dnnl_engine_create", byref(self.engine), 1, 0)
        self.call("dnnl_stream_create", byref(self.stream), self.engine, 1)
        self.attributes = c_void_p()
        self.call("dnnl_primitive_attr_create", byref(self.attributes))
        # Scratchpads are ours (see primitive.py): one growing buffer per thread instead of one per primitive.
        self.call("dnnl_primitive_attr_set_scratchpad_mode", self.attributes, SCRATCHPAD_USER)

    def _declare(self, name: str, arguments: list[Any]) -> None:
        function = getattr(self.dll, name)
        function.argtypes = arguments
        function.restype = c_int

    def call(self, name: str, *arguments: Any) -> None:
        """Call a C function; raise OneDNNError if it does not return success."""
        status = getattr(self.dll, name)(*arguments)
        if status != SUCCESS:
            raise OneDNNError(name, status)

    def implementation(self, description: c_void_p) -> str:
        """The name of the kernel oneDNN chose, for example `jit:avx2`."""
        name = c_char_p()
        self.call("dnnl_primitive_desc_query", description, QUERY_IMPLEMENTATION, 0, byref(name))
        return (name.value or b"").decode()


_lock = threading.Lock()
_state: dict[str, Any] = {}


def candidates() -> list[Path]:
    """Where the library may lie: the wheel `onednn-cpu-gomp` installs it into `lib` of the environment."""
    usual = Path(sys.prefix) / "lib" / "libdnnl.so.3"
    if usual.exists():
        return [usual]
    from importlib.metadata import PackageNotFoundError, files  # 70 ms, and seldom needed

    found = []
    for name in ("onednn-cpu-gomp", "onednn"):
        try:
            listed = files(name) or []
        except PackageNotFoundError:
            continue
        found += [Path(str(f.locate())).resolve() for f in listed if f.name == "libdnnl.so.3"]
    return [path for path in found if path.exists()]


def load() -> Library | None:
    """The library, or None if it is switched off (FLAMBEAU_ONEDNN=0), absent or unusable; decided once."""
    if "library" not in _state:
        with _lock:
            if "library" not in _state:
                _state["library"] = _open()
    return _state["library"]


def _open() -> Library | None:
    if os.environ.get("FLAMBEAU_ONEDNN", "1") == "0":
        _state["reason"] = "switched off by FLAMBEAU_ONEDNN=0"
        return None
    paths = candidates()
    for path in paths:
        try:
            library = Library(str(path))
        except (OSError, AttributeError, OneDNNError) as error:
            _state["reason"] = f"{path}: {error}"
        else:
            keep_freed_memory()  # whoever computes with oneDNN makes large arrays again and again
            return library
    if not paths:
        _state["reason"] = "libdnnl.so.3 was not found; install onednn-cpu-gomp"
    return None


def reason() -> str:
    """Why `load()` returned None."""
    load()
    return str(_state.get("reason", ""))


def dims(values: Any) -> Any:
    """A dnnl_dims_t."""
    return Dims(*values)


