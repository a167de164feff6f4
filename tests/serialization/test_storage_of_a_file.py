"""Storages over files, as safetensors' loader for PyTorch opens them."""

import flambeau as torch


def test_a_file_as_memory(tmp_path):
    path = tmp_path / "numbers.bin"
    path.write_bytes(torch.arange(6.0).numpy().tobytes())
    storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=24)
    whole = torch.asarray(storage, dtype=torch.uint8)
    assert whole.shape == (24,) and whole.data_ptr() == storage.data_ptr()
    part = torch.asarray(storage[8:16], dtype=torch.uint8).view(dtype=torch.float32)
    assert part.tolist() == [2.0, 3.0]
    assert torch.asarray(storage, dtype=torch.float32).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    part[0] = 9.0   # a private copy of the page, not the file
    assert torch.UntypedStorage.from_file(path, nbytes=12).tolist()[8:12] == list(path.read_bytes()[8:12])
    assert path.read_bytes()[8:12] == torch.tensor([2.0]).numpy().tobytes()


def test_a_shared_file_is_written(tmp_path):
    path = tmp_path / "bytes.bin"
    path.write_bytes(bytes(4))
    torch.asarray(torch.UntypedStorage.from_file(path, True, 4))[1] = 7
    assert path.read_bytes() == b"\0\7\0\0"


def test_view_by_keyword():
    x = torch.arange(4.0)
    assert x.view(size=(2, 2)).shape == (2, 2) and x.view(dtype=torch.int32).dtype is torch.int32
