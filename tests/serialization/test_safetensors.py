"""The safetensors format."""

import json
import struct

import pytest

import flambeau as torch
from flambeau.serialization import safetensors

DTYPES = ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool", "uint16",
          "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "complex64"]


def several():
    found = {name: torch.tensor([0.0, 1, 2, 3, 1, 7]).to(getattr(torch, name)).reshape(2, 3) for name in DTYPES}
    return {**found, "empty": torch.zeros(0, 3), "scalar": torch.tensor(2.5), "żółw": torch.ones(1)}


def test_round_trip(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.save_file(several(), path, metadata={"format": "pt"})
    for loaded in (safetensors.load_file(path), safetensors.load(safetensors.save(several()))):
        assert set(loaded) == set(several())
        for name, t in several().items():
            assert loaded[name].dtype is t.dtype and loaded[name].shape == t.shape
            assert loaded[name].stride() == t.stride() and loaded[name].tolist() == t.tolist()
            loaded[name].zero_()        # memory of its own
    assert safetensors.load_metadata(path) == {"format": "pt"}
    assert all(t.is_meta for t in safetensors.load_file(path, device="meta").values())


def test_bytes_of_the_format():
    data = safetensors.save({"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor([1.0])})
    length = struct.unpack("<Q", data[:8])[0]
    assert length % 8 == 0
    assert json.loads(data[8:8 + length]) == {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "b": {"dtype": "I16", "shape": [2], "data_offsets": [4, 8]},
    }
    assert data[8 + length:] == struct.pack("<fhh", 1.0, 1, 2)


@pytest.mark.parametrize("make, error, message", [
    (lambda t: {"t": t.t()}, ValueError, "non contiguous"),
    (lambda t: {"a": t, "b": t[0]}, RuntimeError, "share memory"),
    (lambda t: {"t": 3}, TypeError, "expected a Tensor"),
    (lambda t: {"t": t.to(torch.complex128)}, TypeError, "complex128"),
])
def test_what_cannot_be_saved(make, error, message):
    with pytest.raises(error, match=message):
        safetensors.save(make(torch.ones(2, 3)))


def file(table, data=b"\0" * 8):
    text = json.dumps(table).encode() if not isinstance(table, bytes) else table
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("data", [
    b"", b"1234567", struct.pack("<Q", 2**60), struct.pack("<Q", 100) + b"{}", file(b"not json"), file([]),
    file({}), file({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}),
    file({"t": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
    file({"t": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}),
    file({"t": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}),
    file({"t": {"dtype": "F31", "shape": [2], "data_offsets": [0, 8]}}), file({"t": {"dtype": "F32"}}), file({"t": 3}),
    file({name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}),
    file({"t": {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]}}),
])
def test_damaged_files(data):
    with pytest.raises(RuntimeError, match="Error while deserializing"):
        safetensors.load(data)
