"""Memory shared with NumPy and others, storages, copies, pickles."""

import copy
import io
import pickle

import numpy as np
import pytest

import flambeau as torch


def test_from_numpy_shares_memory_both_ways():
    array = np.arange(6.0).reshape(2, 3)
    x = torch.from_numpy(array)
    array[0, 0] = 7.0
    x[1, 2] = 8.0
    assert x[0, 0].item() == 7.0 and array[1, 2] == 8.0
    assert x.data_ptr() == array.ctypes.data and x.dtype is torch.float64
    assert torch.from_numpy(array.T).stride() == (1, 3)
    assert torch.from_numpy(array[:, ::2]).stride() == (3, 2)


@pytest.mark.parametrize("array, error, message", [
    (np.arange(3)[::-1], ValueError, "negative strides"),
    (np.array(["a"]), TypeError, "can't convert np.ndarray of type"),
    (np.array([object()]), TypeError, "can't convert np.ndarray of type"),
    ([1, 2], TypeError, r"expected np.ndarray \(got list\)"),
    (np.arange(3, dtype=">i4"), ValueError, "byte order"),
])  # fmt: skip
def test_from_numpy_refuses(array, error, message):
    with pytest.raises(error, match=message):
        torch.from_numpy(array)


def test_read_only_arrays_are_warned_about():
    array = np.zeros(2)
    array.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        torch.from_numpy(array)


def test_numpy_shares_memory():
    x = torch.zeros(2, 3)
    array = x.numpy()
    x[0, 1] = 5.0
    array[1, 1] = 6.0
    assert array[0, 1] == 5.0 and x[1, 1].item() == 6.0
    assert x.t().numpy().strides == (4, 12)
    assert isinstance(torch.tensor(1.0).numpy(), np.ndarray) and torch.tensor(1.0).numpy().shape == ()


def test_numpy_refuses_history_unless_forced():
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"):
        x.numpy()
    assert x.numpy(force=True).tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match="BFloat16"):
        torch.ones(2, dtype=torch.bfloat16).numpy()


def test_tensors_in_numpy_functions():
    x = torch.tensor([1.0, 4.0])
    assert np.sqrt(x).tolist() == [1.0, 2.0]
    assert np.asarray(x).dtype == np.float32 and np.array(x, dtype=np.float64).dtype == np.float64
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert np.concatenate([x, x]).shape == (4,)
    assert (np.ones(2) * np.asarray(x)).tolist() == [1.0, 4.0]


def test_numpy_numbers_and_arrays_as_operands():
    x = torch.tensor([1.0, 2.0])
    assert (x * np.float64(2)).dtype is torch.float32
    assert (x + np.int64(1)).tolist() == [2.0, 3.0]
    assert torch.tensor(np.float32(1.5)).dtype is torch.float32
    assert torch.tensor([np.float64(1.5)]).dtype is torch.float64


def test_as_tensor_shares_and_tensor_copies():
    array = np.zeros(2)
    torch.as_tensor(array)[0] = 1.0
    torch.tensor(array)[1] = 1.0
    assert array.tolist() == [1.0, 0.0]
    x = torch.zeros(2)
    assert torch.as_tensor(x) is x
    assert torch.as_tensor(array, dtype=torch.float32).dtype is torch.float32


def test_frombuffer_and_asarray():
    data = bytearray(np.arange(4, dtype=np.int16).tobytes())
    x = torch.frombuffer(data, dtype=torch.int16, offset=2)
    x[0] = 9
    assert x.tolist() == [9, 2, 3] and np.frombuffer(data, np.int16)[1] == 9
    assert torch.asarray([1, 2]).dtype is torch.int64
    array = np.zeros(2, np.float32)
    torch.asarray(array)[0] = 3.0
    torch.asarray(array, copy=True)[1] = 3.0
    assert array.tolist() == [3.0, 0.0]


def test_dlpack_to_numpy_and_back():
    x = torch.arange(6.0).reshape(2, 3)
    array = np.from_dlpack(x)
    assert np.shares_memory(array, x.numpy())
    source = np.arange(4.0)
    y = torch.from_dlpack(source)
    y[0] = 5.0
    assert source[0] == 5.0 and y.dtype is torch.float64
    z = torch.from_dlpack(x)
    z[0, 0] = 7.0
    assert x[0, 0].item() == 7.0
    assert torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x)).tolist() == x.tolist()


def test_dlpack_refuses_history():
    with pytest.raises((RuntimeError, BufferError), match="require"):
        np.from_dlpack(torch.ones(2, requires_grad=True))


def test_storages():
    x = torch.arange(6.0).reshape(2, 3)
    storage = x.untyped_storage()
    assert storage.nbytes() == 24 and len(storage) == 24 and storage.data_ptr() == x.data_ptr()
    assert x[1].untyped_storage().data_ptr() == storage.data_ptr() and x[1].untyped_storage().nbytes() == 24
    assert list(x.storage())[:3] == [0.0, 1.0, 2.0] and x.storage().size() == 6
    assert x.element_size() == 4 and x.nbytes == 24 and x.nelement() == x.numel() == 6


def test_deepcopy():
    w = torch.ones(2, requires_grad=True)
    w.note = "kept"
    c = copy.deepcopy(w)
    assert c is not w and c.requires_grad and c.note == "kept" and c.data_ptr() != w.data_ptr()
    with pytest.raises(RuntimeError, match="Only Tensors created explicitly by the user"):
        copy.deepcopy(w * 2)


def test_deepcopy_keeps_sharing():
    base = torch.zeros(6)
    pair = copy.deepcopy([base, base[2:4], base])
    pair[0][2] = 5.0
    assert pair[1][0].item() == 5.0 and pair[2] is pair[0] and base.sum().item() == 0


@pytest.mark.parametrize("x", [
    torch.arange(6.0).reshape(2, 3), torch.arange(12).reshape(3, 4)[1:, ::2], torch.tensor(3), torch.zeros(0, 2),
    torch.ones(2, dtype=torch.bfloat16), torch.tensor([1 + 2j]), torch.tensor([True]), torch.zeros(2, 3).t(),
])  # fmt: skip
def test_pickles(x):
    y = pickle.loads(pickle.dumps(x))
    assert y.dtype is x.dtype and y.shape == x.shape and y.stride() == x.stride()
    assert y.tolist() == x.tolist()


def test_pickles_keep_flags_and_attributes():
    w = torch.ones(2, requires_grad=True)
    v = pickle.loads(pickle.dumps(w))
    assert v.requires_grad and v.is_leaf


def test_saved_files_keep_sharing():
    base = torch.zeros(6)
    file = io.BytesIO()
    torch.save({"base": base, "part": base[2:4], "same": base}, file)
    file.seek(0)
    loaded = torch.load(file)
    loaded["base"][2] = 5.0
    assert loaded["part"][0].item() == 5.0


def test_attributes_of_one_s_own():
    x = torch.zeros(2)
    x.label = "mine"
    assert x.label == "mine" and not hasattr(torch.zeros(2), "label")


def test_hash_and_equality():
    x = torch.zeros(2)
    assert {x: 1}[x] == 1 and len({x, torch.zeros(2)}) == 2
    assert (x == torch.zeros(2)).tolist() == [True, True]
    assert x != "text" and (x == None) is False  # noqa: E711
