"""Files of PyTorch read here, and files written here: names, layout, ways to call."""

import collections
import importlib.util
import io
import pickle
import pickletools
import zipfile
from pathlib import Path

import pytest

import flambeau as torch

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
spec = importlib.util.spec_from_file_location("make_golden", HERE / "make_golden.py")
make_golden = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_golden)
OBJECTS = make_golden.objects(torch)
PLAIN = [name for name in OBJECTS if name not in ("module.pt", "optimizer.pt")]


def same(a, b):
    """Equal in type, values, dtype, strides and attributes."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype is b.dtype and a.shape == b.shape and a.stride() == b.stride()
        assert a.requires_grad == b.requires_grad
        assert a.tolist() == b.tolist()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y)
    else:
        assert a == b


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("weights_only", [True, False])
def test_reads_pytorchs_files(name, weights_only):
    same(torch.load(GOLDEN / name, weights_only=weights_only), OBJECTS[name][0])


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("legacy", [False, True])
def test_round_trip(name, legacy):
    value, _ = OBJECTS[name]
    same(torch.load(saved(value, _use_new_zipfile_serialization=not legacy)), value)


@pytest.mark.parametrize("name", ["views.pt", "views_legacy.pt"])
def test_views_share_their_storage(name):
    for loaded in (torch.load(GOLDEN / name), torch.load(saved(OBJECTS[name][0]))):
        loaded["base"].fill_(5)
        assert all((loaded[key] == 5).all() for key in ("row", "column", "transposed"))
        assert loaded["row"].storage_offset() == 4


def test_one_tensor_under_two_names_stays_one():
    t = torch.arange(3.0)
    loaded = torch.load(saved({"a": t, "b": t}))
    assert loaded["a"] is loaded["b"]


def test_the_same_memory_as_two_types():
    z = torch.ones(2, dtype=torch.complex64)
    loaded = torch.load(saved([z, torch.view_as_real(z)]))
    loaded[1].fill_(3)
    assert loaded[0].tolist() == [3 + 3j, 3 + 3j]


def test_state_dict_keeps_its_metadata():
    for state in (torch.load(GOLDEN / "state_dict.pt"), torch.load(saved(make_golden.network(torch).state_dict()))):
        assert type(state) is collections.OrderedDict
        assert state._metadata["1"] == {"version": 2}


def test_whole_module_of_pytorch():
    with pytest.raises(pickle.UnpicklingError, match="weights_only=False"):
        torch.load(GOLDEN / "module.pt")
    model = torch.load(GOLDEN / "module.pt", weights_only=False)
    expected = make_golden.network(torch)
    assert repr(model) == repr(expected) and type(model[0]) is torch.nn.Conv2d
    x = torch.arange(32.0).reshape(2, 1, 4, 4) / 32
    assert torch.allclose(model.eval()(x), expected.eval()(x))


def test_whole_optimizer_of_pytorch():
    optimizer = torch.load(GOLDEN / "optimizer.pt", weights_only=False)
    assert type(optimizer) is torch.optim.Adam and repr(optimizer) == repr(make_golden.trained(torch))
    weight = optimizer.param_groups[0]["params"][0]
    assert optimizer.state[weight]["exp_avg"].flatten().tolist() == pytest.approx([0.1] * 4)
    weight.grad = torch.ones_like(weight)
    optimizer.step()


def names_in(buffer):
    pickled = zipfile.ZipFile(buffer).read("archive/data.pkl")
    return {argument for opcode, argument, _ in pickletools.genops(pickled) if opcode.name == "GLOBAL"}


def test_files_name_pytorchs_things():
    assert names_in(saved({"w": torch.ones(2), "p": torch.nn.Parameter(torch.ones(1)), "s": torch.Size([1]),
                           "d": torch.int8, "where": torch.device("cpu"), "u": torch.ones(2).to(torch.uint16)})) == {
        "torch FloatStorage", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch Size",
        "torch int8", "torch device", "torch._utils _rebuild_tensor_v3", "torch uint16", "torch.storage UntypedStorage",
        "collections OrderedDict",
    }


@pytest.mark.parametrize("make, name", [
    (lambda: torch.nn.Linear(1, 1), "torch.nn.modules.linear Linear"),
    (lambda: torch.nn.MultiheadAttention(2, 1), "torch.nn.modules.activation MultiheadAttention"),
    (lambda: torch.nn.functional.relu, "torch.nn.functional relu"),
    (lambda: torch.add, "torch add"),
    (lambda: torch.optim.SGD([torch.nn.Parameter(torch.ones(1))]), "torch.optim.sgd SGD"),
    (lambda: torch.optim.lr_scheduler.StepLR, "torch.optim.lr_scheduler StepLR"),
    (lambda: torch.utils.data.TensorDataset(torch.ones(1)), "torch.utils.data.dataset TensorDataset"),
    (lambda: torch.Generator(), "torch._C Generator"),
    (lambda: torch.strided, "torch.serialization _get_layout"),
])
def test_classes_go_under_pytorchs_names_and_come_back(make, name):
    value = make()
    buffer = saved(value)
    assert name in names_in(buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert type(loaded) is type(value)
    if isinstance(value, type) or not hasattr(value, "__dict__") or (callable(value) and not hasattr(value, "forward")):
        assert loaded is value or isinstance(value, torch.Generator)


def test_generator_continues():
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    loaded = torch.load(saved(generator), weights_only=False)
    assert type(loaded) is torch.Generator
    assert torch.rand(4, generator=loaded).tolist() == torch.rand(4, generator=generator).tolist()


def test_layout_of_the_archive(tmp_path):
    path = tmp_path / "model.v1.pt"
    torch.save({"w": torch.ones(3), "v": torch.ones(500)}, path)
    archive = zipfile.ZipFile(path)
    assert archive.testzip() is None
    assert archive.namelist() == [f"model.v1/{name}" for name in (
        "data.pkl", ".format_version", ".storage_alignment", "byteorder", "data/0", "data/1", "version",
        ".data/serialization_id")]
    assert archive.read("model.v1/byteorder") == b"little" and archive.read("model.v1/version") == b"3\n"
    raw = path.read_bytes()
    for info in archive.infolist():
        assert info.compress_type == zipfile.ZIP_STORED
        header = info.header_offset
        start = header + 30 + sum(int.from_bytes(raw[header + at:header + at + 2], "little") for at in (26, 28))
        assert start % 64 == 0


# ---- ways to call --------------------------------------------------------------------------


@pytest.mark.parametrize("map_location", [
    "cpu", torch.device("cpu"), {"cuda:0": "cpu"}, lambda storage, where: storage, lambda storage, where: None,
])
def test_map_location(map_location):
    same(torch.load(saved(OBJECTS["mixed.pt"][0]), map_location=map_location), OBJECTS["mixed.pt"][0])


@pytest.mark.parametrize("legacy", [False, True])
def test_loading_to_meta(legacy):
    loaded = torch.load(saved(OBJECTS["views.pt"][0], _use_new_zipfile_serialization=not legacy), map_location="meta")
    assert all(t.is_meta for t in loaded.values()) and loaded["row"].shape == (4,)


def test_storages_of_another_device():
    def elsewhere(buffer):
        """The file as a GPU would have tagged it (the checksum must still fit, so a new archive)."""
        with zipfile.ZipFile(buffer) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        moved = io.BytesIO()
        with zipfile.ZipFile(moved, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
        moved.seek(0)
        return moved

    with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
        torch.load(elsewhere(saved(torch.ones(2))))
    assert torch.load(elsewhere(saved(torch.ones(2))), map_location="cpu").tolist() == [1.0, 1.0]
    assert torch.load(elsewhere(saved(torch.ones(2))), map_location={"cuda:0": "cpu"}).tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(saved(torch.ones(2)), map_location="cuda")


def test_mmap(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(1000.0)}, path)
    before = path.read_bytes()
    loaded = torch.load(path, mmap=True)
    assert loaded["w"].sum().item() == 499500
    loaded["w"].zero_()                 # stays in memory
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="file path"):
        torch.load(saved(torch.ones(1)), mmap=True)
    torch.save(torch.ones(1), path, _use_new_zipfile_serialization=False)
    with pytest.raises(RuntimeError, match="mmap"):
        torch.load(path, mmap=True)


def test_files_that_only_read_and_seek():
    class Small:
        def __init__(self, data):
            self.inner = io.BytesIO(data)

        def read(self, count=-1):
            return self.inner.read(count)

        def seek(self, *place):
            return self.inner.seek(*place)

        def tell(self):
            return self.inner.tell()

        def readline(self):
            return self.inner.readline()

        def seekable(self):
            return True

    for legacy in (False, True):
        data = saved(torch.arange(4), _use_new_zipfile_serialization=not legacy).getvalue()
        assert torch.load(Small(data)).tolist() == [0, 1, 2, 3]
    with pytest.raises(AttributeError, match="BytesIO"):
        torch.load(object())
    with pytest.raises(AttributeError, match="write"):
        torch.save(1, object())


def test_several_legacy_objects_in_one_file():
    buffer = io.BytesIO()
    for value in (torch.ones(2), torch.zeros(3)):
        torch.save(value, buffer, _use_new_zipfile_serialization=False)
    buffer.seek(0)
    assert torch.load(buffer).tolist() == [1, 1] and torch.load(buffer).tolist() == [0, 0, 0]


def test_an_interrupted_save_keeps_the_old_file(tmp_path):
    class Interrupting:
        def __reduce__(self):
            raise KeyboardInterrupt

    path = tmp_path / "a.pt"
    torch.save(torch.ones(2), path)
    with pytest.raises(KeyboardInterrupt):
        torch.save([torch.zeros(9), Interrupting()], path)
    assert torch.load(path).tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_saving_through_a_link_replaces_what_it_points_to(tmp_path):
    (tmp_path / "real.pt").write_bytes(b"old")
    (tmp_path / "link.pt").symlink_to(tmp_path / "real.pt")
    torch.save(torch.ones(2), tmp_path / "link.pt")
    assert (tmp_path / "link.pt").is_symlink() and torch.load(tmp_path / "real.pt").tolist() == [1, 1]


def test_permissions_of_a_replaced_file_stay(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(torch.ones(2), path)
    path.chmod(0o640)
    torch.save(torch.zeros(2), path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_saving_into_a_device():
    if Path("/dev/null").exists():
        torch.save(torch.ones(2), "/dev/null")
        assert not Path("/dev/null").is_file()


def test_saving_into_a_missing_folder(tmp_path):
    with pytest.raises(RuntimeError, match=r"Parent directory .* does not exist"):
        torch.save(1, tmp_path / "no" / "a.pt")


def test_pickle_module():
    assert torch.load(saved(torch.ones(1), pickle_module=pickle), pickle_module=pickle).tolist() == [1]
    with pytest.raises(RuntimeError, match="explicit picklers"):
        torch.load(saved(1), pickle_module=pickle, weights_only=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_protocols(protocol):
    same(torch.load(saved(OBJECTS["mixed.pt"][0], pickle_protocol=protocol)), OBJECTS["mixed.pt"][0])


def test_attributes_of_tensors_stay():
    t = torch.ones(2)
    t.note = "here"
    p = torch.nn.Parameter(torch.ones(2))
    p.note = "there"
    loaded = torch.load(saved([t, p]))
    assert loaded[0].note == "here" and loaded[1].note == "there" and type(loaded[1]) is torch.nn.Parameter


def test_tensor_subclass_needs_permission():
    with pytest.raises(pickle.UnpicklingError, match="add_safe_globals"):
        torch.load(saved(Labelled(torch.ones(2))))
    with torch.serialization.safe_globals([Labelled]):
        assert type(torch.load(saved(Labelled(torch.ones(2))))) is Labelled


class Labelled(torch.Tensor):
    pass


def test_a_file_with_other_byte_order():
    buffer = saved({"w": torch.arange(3.0), "z": torch.tensor([1 + 2j]), "i": torch.tensor([1, 2], dtype=torch.int16)})
    archive = zipfile.ZipFile(buffer)
    swapped = io.BytesIO()
    sizes = {"archive/data/0": 4, "archive/data/1": 4, "archive/data/2": 2}
    with zipfile.ZipFile(swapped, "w") as other:
        for name in archive.namelist():
            data = archive.read(name)
            if name in sizes:
                size = sizes[name]
                data = b"".join(data[i:i + size][::-1] for i in range(0, len(data), size))
            other.writestr(name, b"big" if name.endswith("byteorder") else data)
    swapped.seek(0)
    loaded = torch.load(swapped)
    assert loaded["w"].tolist() == [0, 1, 2] and loaded["z"].tolist() == [1 + 2j] and loaded["i"].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["marks.pt", "marks_legacy.pt"])
def test_marks_on_pytorchs_tensors(name):
    loaded = torch.load(GOLDEN / name)
    assert loaded["conj"].tolist() == [1 - 2j, 3 + 1j] and loaded["neg"].tolist() == [-2, 1]
    assert loaded["plain"].tolist() == [1 + 2j, 3 - 1j]


def test_unsafe_globals_are_listed():
    value = {"w": torch.ones(1), "p": torch.nn.Parameter(torch.ones(1)), "m": torch.nn.Linear(1, 1)}
    for protocol in (2, 4):
        listed = torch.serialization.get_unsafe_globals_in_checkpoint(saved(value, pickle_protocol=protocol))
        assert listed == ["torch.nn.modules.linear.Linear"]
    with torch.serialization.safe_globals([torch.nn.Linear]):
        assert torch.serialization.get_unsafe_globals_in_checkpoint(saved(value)) == []
    with pytest.raises(ValueError, match=r"torch\.save"):
        torch.serialization.get_unsafe_globals_in_checkpoint(saved(value, _use_new_zipfile_serialization=False))


def test_without_checksums():
    torch.serialization.set_crc32_options(False)
    try:
        buffer = saved(torch.arange(3))
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.serialization.get_crc32_options()
    assert {info.CRC for info in zipfile.ZipFile(buffer).infolist()} == {0}
    buffer.seek(0)
    assert torch.load(buffer).tolist() == [0, 1, 2]


def test_byte_order_of_files_that_do_not_say():
    buffer = saved(torch.tensor([1, 256], dtype=torch.int16), _disable_byteorder_record=True)
    assert "archive/byteorder" not in zipfile.ZipFile(buffer).namelist()
    buffer.seek(0)
    torch.serialization.set_default_load_endianness(torch.serialization.LoadEndianness.BIG)
    try:
        assert torch.load(buffer).tolist() == [256, 1]
    finally:
        torch.serialization.set_default_load_endianness(None)
    buffer.seek(0)
    assert torch.load(buffer).tolist() == [1, 256]
    with pytest.raises(TypeError):
        torch.serialization.set_default_load_endianness("big")
