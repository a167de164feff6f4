"""Files that must be refused: pickles that run code, tensors that reach outside their storage, damaged files."""

import builtins
import collections
import io
import os
import pathlib
import pickle
import struct
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest

import flambeau as torch
from flambeau.serialization import rebuild
from flambeau.serialization.names import STORAGE_TYPES
from flambeau.serialization.pickler import _Reference
from flambeau.serialization.unpickler import WeightsUnpickler


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Settings:
    def __init__(self):
        self.rate = 0.5


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("payload", [
    lambda p: Calls(os.mkdir, p),
    lambda p: Calls(os.system, f"mkdir '{p}'"),
    lambda p: Calls(builtins.eval, f"__import__('os').mkdir({p!r})"),
    lambda p: Calls(builtins.exec, f"import os; os.mkdir({p!r})"),
    lambda p: Calls(subprocess.call, ["mkdir", p]),
    lambda p: Calls(getattr, Calls(__import__, "os"), "mkdir"),
    lambda p: Calls(pathlib.Path, p),
    lambda p: {"deep": [1, (Calls(os.mkdir, p),)]},
    lambda p: Calls(rebuild.rebuild_from_type_v2, os.mkdir, torch.Tensor, (p,), {}),
    lambda p: Calls(collections.defaultdict, os.getcwd),
], ids=["mkdir", "system", "eval", "exec", "subprocess", "getattr", "path", "nested", "rebuilder", "defaultdict"])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_code_is_not_run(payload, form, tmp_path):
    marker = tmp_path / "marker"
    evil = payload(str(marker))
    buffer = io.BytesIO(pickle.dumps(evil)) if form == "bare" else saved(
        {"w": torch.ones(2), "evil": evil}, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(pickle.UnpicklingError, match="weights_only=False"):
        torch.load(buffer)
    assert not marker.exists()


@pytest.mark.parametrize("program", [
    b"c_codecs\nencode\n(X\x04\x00\x00\x00boomX\x03\x00\x00\x00zipotR.",     # a codec that unpacks
    b"cbuiltins\nbytearray\nK\x05\x85R.",                                    # memory of a size the file chooses
    b"ctorch\nTensor\n(J\xff\xff\xff\x7ftR.",
    b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.",       # attributes on a function
    b"ctorch\nSize\n}X\x01\x00\x00\x00aK\x01sb.",                            # attributes on a class
    b"ctorch\nSize\nK\x01a.",                                                # append to a class
    b"X\x01\x00\x00\x00aK\x01K\x02s.",                                       # an item of a text
    b"ios\nmkdir\n(X\x01\x00\x00\x00a.", b"(X\x01\x00\x00\x00aios\nmkdir\n.", b"(cos\nmkdir\nX\x01\x00\x00\x00ao.",
    b"\x82\x01.", b"K\x01K\x01R.", b"R.", b"t.", b"h\x05.", b"\x80\x09N.", b"P1\n.", b"Q.", b"",
])
def test_forbidden_instructions(program):
    with pytest.raises((pickle.UnpicklingError, EOFError)):
        WeightsUnpickler(io.BytesIO(b"\x80\x02" + program)).load()


@pytest.mark.parametrize("size, stride, offset", [
    ((10**6,), (1,), 0), ((2, 2), (1, 10**9), 0), ((2,), (1,), 10**6), ((2,), (1,), -4), ((2,), (-1,), 3),
    ((-1,), (1,), 0), ((5,), (1,), 0), ((4,), (1,), 1), ((2**62, 4), (4, 1), 0), ((2,), (1, 1), 0), ((2.0,), (1,), 0),
    (("2",), (1,), 0),
])
@pytest.mark.parametrize("options", [{}, {"map_location": "meta"}, {"weights_only": False}], ids=str)
def test_tensors_stay_inside_their_storage(size, stride, offset, options):
    storage = torch.ones(4).untyped_storage()
    place = _Reference(storage, STORAGE_TYPES["FloatStorage"])
    call = Calls(rebuild.rebuild_tensor_v2, place, offset, size, stride, False, collections.OrderedDict())
    with pytest.raises((RuntimeError, pickle.UnpicklingError)):
        torch.load(saved({"w": call}), **options)


def test_classes_of_users_can_be_allowed():
    with pytest.raises(pickle.UnpicklingError, match="add_safe_globals"):
        torch.load(saved(Settings()))
    with torch.serialization.safe_globals([Settings]):
        assert torch.load(saved(Settings())).rate == 0.5
        assert torch.serialization.get_safe_globals() == [Settings]
    assert torch.serialization.get_safe_globals() == []
    torch.serialization.add_safe_globals([(Settings, f"{Settings.__module__}.Settings")])
    try:
        assert torch.load(saved(Settings())).rate == 0.5
    finally:
        torch.serialization.clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError):
        torch.load(saved(Settings()))


# ---- damage --------------------------------------------------------------------------------


def whole(legacy=False):
    return saved({"w": torch.arange(1000.0), "b": torch.ones(3)}, _use_new_zipfile_serialization=not legacy).getvalue()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_cut_anywhere(legacy):
    data = whole(legacy)
    for size in [*range(0, 200, 7), *range(200, len(data), 301), len(data) - 1]:
        with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError)):
            torch.load(io.BytesIO(data[:size]))


def test_flipped_bytes_are_noticed():
    data = whole()
    place = data.index(np.arange(1000, dtype=np.float32).tobytes()) + 50
    with pytest.raises(RuntimeError, match="checksum"):
        torch.load(io.BytesIO(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:]))


@pytest.mark.parametrize("change", [
    lambda name, data: None if name.endswith("data/0") else data,
    lambda name, data: data[:100] if name.endswith("data/0") else data,
    lambda name, data: data[:40] if name.endswith("data.pkl") else data,
    lambda name, data: None if name.endswith("data.pkl") else data,
], ids=["no storage", "short storage", "cut pickle", "no pickle"])
def test_records_missing_or_short(change):
    archive, broken = zipfile.ZipFile(io.BytesIO(whole())), io.BytesIO()
    with zipfile.ZipFile(broken, "w") as other:
        for name in archive.namelist():
            changed = change(name, archive.read(name))
            if changed is not None:
                other.writestr(name, changed)
    broken.seek(0)
    with pytest.raises((RuntimeError, EOFError, pickle.UnpicklingError)):
        torch.load(broken)


def test_compressed_records_are_read():
    archive, other = zipfile.ZipFile(io.BytesIO(whole())), io.BytesIO()
    with zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    other.seek(0)
    assert torch.load(other)["w"].sum().item() == 499500


def test_what_is_no_file_of_ours(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(FileNotFoundError):
        torch.load(path)
    path.write_bytes(b"")
    with pytest.raises(EOFError):
        torch.load(path)
    path.write_text("hello, this is not a checkpoint")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/readme", b"x")
    with pytest.raises(RuntimeError, match=r"data\.pkl"):
        torch.load(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/constants.pkl", b"x")
    with pytest.raises(RuntimeError, match="TorchScript"):
        torch.load(path)
    with pytest.raises(IsADirectoryError):
        torch.load(tmp_path)


# ---- the oldest format ---------------------------------------------------------------------


def tar(storage_values=(0.0, 1, 2, 3, 4, 5), shape=(2, 2), stride=(3, 1), offset=1, leave_out=None):
    """A tar archive as PyTorch 0.1.1 wrote it, with one storage, a view of it and one tensor."""
    class Storage(pickle._Pickler):
        def save_global(self, obj, name=None):
            self.write(b"ctorch\nFloatStorage\n")

    def float_storage(*place):
        stream = io.BytesIO()
        pickler = Storage(stream, 2)
        pickler.dispatch = {**pickle._Pickler.dispatch, type(tar): Storage.save_global}
        pickler.dump((*place, tar))
        return stream.getvalue()

    class Reference:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return "11" if isinstance(obj, Reference) else None

    storages = pickle.dumps(1, 2) + float_storage("7", "cpu") + struct.pack("<q", len(storage_values)) \
        + np.array(storage_values, np.float32).tobytes() + pickle.dumps([("8", "7", 1, 4)], 2)
    tensors = pickle.dumps(1, 2) + float_storage("11", "7") + struct.pack("<i", len(shape)) + b"\0" * 4 \
        + struct.pack(f"<{len(shape)}q", *shape) + struct.pack(f"<{len(stride)}q", *stride) + struct.pack("<q", offset)
    pickled = io.BytesIO()
    Pickler(pickled, 2).dump({"w": Reference(), "epoch": 3})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in (("sys_info", pickle.dumps({})), ("storages", storages), ("tensors", tensors),
                           ("pickle", pickled.getvalue())):
            if name != leave_out:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("weights_only", [True, False])
def test_tar(weights_only):
    loaded = torch.load(tar(), weights_only=weights_only)
    assert loaded["epoch"] == 3 and loaded["w"].tolist() == [[1, 2], [4, 5]] and loaded["w"].stride() == (3, 1)


@pytest.mark.parametrize("options", [
    {"offset": 3}, {"shape": (9, 9)}, {"stride": (100, 1)}, {"leave_out": "tensors"},
], ids=str)
def test_damaged_tar(options):
    with pytest.raises(RuntimeError):
        torch.load(tar(**options))
