"""`torch.jit.trace`, `save` and `load`: the same numbers as the function, in a file that needs no Python source."""

import copy
import io
import json
import warnings
import zipfile
from typing import Optional

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.nn import functional as F


def through_file(script):
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def convnet():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(128, 10)).eval()


def test_traced_module_equals_the_module_natively_and_with_gradients():
    model, x = convnet(), torch.randn(2, 3, 8, 8)
    traced = torch.jit.trace(model, x)
    assert isinstance(traced, torch.jit.ScriptModule) and isinstance(traced, nn.Module)
    torch.testing.assert_close(traced(x), model(x))
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)
    traced(x).square().sum().backward()
    found = model[0].weight.grad.clone()
    model.zero_grad()
    model(x).square().sum().backward()
    torch.testing.assert_close(found, model[0].weight.grad)


def test_state_of_a_traced_module_is_the_modules():
    model = convnet()
    traced = torch.jit.trace(model, torch.randn(2, 3, 8, 8))
    assert traced.state_dict().keys() == model.state_dict().keys()
    assert all(a is b for a, b in zip(traced.parameters(), model.parameters()))
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert copy.deepcopy(traced).state_dict().keys() == model.state_dict().keys()
    assert traced.double()(x).dtype == torch.float64


@pytest.mark.parametrize("make, shape", [
    (lambda: nn.LSTM(8, 16, batch_first=True), (2, 5, 8)),
    (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval(), (2, 5, 16)),
    (lambda: nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.3)).train(), (6, 8)),
])  # fmt: skip
def test_layers_through_a_file(make, shape):
    torch.manual_seed(1)
    model, x = make(), torch.randn(*shape)
    loaded = through_file(torch.jit.trace(model, (x,)))
    results = []
    for one in (model, loaded):
        torch.manual_seed(2)
        results.append(one(x))
    torch.testing.assert_close(*results)
    for (name, a), (other, b) in zip(model.named_buffers(), loaded.named_buffers()):
        assert name == other
        torch.testing.assert_close(a, b)


def test_loaded_trace_runs_for_other_batches():
    model = convnet()
    loaded = through_file(torch.jit.trace(model, torch.randn(2, 3, 8, 8)))
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(loaded(x), model(x))


def test_shapes_that_do_not_fit_are_an_error_that_names_the_operation():
    loaded = through_file(torch.jit.trace(nn.LSTM(8, 16, batch_first=True), torch.randn(2, 5, 8)))
    with pytest.raises(RuntimeError, match=r"made for inputs of shape \[2, 5, 8\].*lstm_scan"):
        loaded(torch.randn(3, 5, 8))
    with pytest.raises(RuntimeError, match="made for float32"):
        loaded(torch.randn(2, 5, 8, dtype=torch.float64))


def test_other_shapes_are_recorded_while_the_function_is_there():
    traced = torch.jit.trace(lambda x: x * x.shape[0], torch.ones(2))
    assert traced(torch.ones(3)).tolist() == [3, 3, 3]


def test_writing_in_place_views_and_nested_results():
    def f(x, scale):
        y = x.clone()
        y[0] = 1
        y.add_(1)
        total = torch.zeros(3)
        total += x.sum()
        return {"y": y * scale["by"], "rest": [total, 2]}, torch.arange(3)

    args = (torch.full((2, 3), 5.0), {"by": torch.tensor(3.0)})
    traced = torch.jit.trace(f, args)
    for script in (traced, through_file(traced)):
        for _ in range(2):
            found, expected = script(*args), f(*args)
            torch.testing.assert_close(found[0]["y"], expected[0]["y"])
            torch.testing.assert_close(found[0]["rest"][0], expected[0]["rest"][0])
            assert found[0]["rest"][1] == 2 and found[1].tolist() == [0, 1, 2]


def test_reading_values_warns_and_keeps_the_branch():
    def f(x):
        return x * 2 if x.sum() > 0 else x

    with pytest.warns(torch.jit.TracerWarning, match="reads the values"):
        traced = torch.jit.trace(f, torch.ones(2))
    assert traced(-torch.ones(2)).tolist() == [-2, -2]


def test_is_tracing_within_the_function_only():
    seen = []

    def f(x):
        seen.append(torch.jit.is_tracing())
        return x + 1

    torch.jit.trace(f, torch.ones(1), check_trace=False)
    assert seen == [True] and not torch.jit.is_tracing()


def test_a_function_that_differs_from_run_to_run_fails_the_check():
    calls = []

    def f(x):
        calls.append(1)
        return x * len(calls)

    with pytest.raises(torch.jit.TracingCheckError):
        torch.jit.trace(f, torch.ones(2))


def test_tracing_leaves_buffers_and_the_random_stream_alone():
    model, x = nn.BatchNorm1d(4), torch.randn(6, 4)
    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)
    torch.jit.trace(nn.Sequential(model, nn.Dropout()), x)
    assert torch.rand(2).tolist() == expected and model.num_batches_tracked.item() == 0


def test_foreign_tensors_with_gradients_are_refused():
    weight = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="requires grad"):
        torch.jit.trace(lambda x: x * weight, torch.ones(2))


def test_frozen_modules_have_no_parameters():
    model, x = convnet(), torch.randn(2, 3, 8, 8)
    frozen = torch.jit.freeze(torch.jit.trace(model, x).eval())
    assert not list(frozen.parameters())
    torch.testing.assert_close(through_file(frozen)(x), model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="eval mode"):
        torch.jit.freeze(torch.jit.trace(convnet().train(), x))


def test_text_of_a_trace_names_operations():
    traced = torch.jit.trace(convnet(), torch.randn(1, 3, 8, 8))
    assert "convolution(%0" in traced.code and "self.0.weight" in str(traced.graph)


def test_jit_isinstance_looks_into_containers():
    assert torch.jit.isinstance([1, 2], list[int]) and not torch.jit.isinstance([1, "a"], list[int])
    assert torch.jit.isinstance({"a": torch.ones(1)}, dict[str, torch.Tensor])
    assert torch.jit.isinstance((1, "a"), tuple[int, str]) and torch.jit.isinstance(None, Optional[int])  # noqa: UP045


# ---- files -------------------------------------------------------------------------------------------


def test_file_by_path_with_extra_files(tmp_path):
    path = tmp_path / "net.pt"
    model, x = convnet(), torch.randn(1, 3, 8, 8)
    torch.jit.trace(model, x).save(path)
    torch.jit.save(torch.jit.trace(model, x), path, _extra_files={"labels.txt": "cat dog"})
    extra = {"labels.txt": ""}
    loaded = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    torch.testing.assert_close(loaded(x), model(x))
    assert extra["labels.txt"] == b"cat dog"
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt"]
    with pytest.raises(ValueError, match="does not exist"):
        torch.jit.load(tmp_path / "other.pt")


def rewritten(script, change):
    """The file of a script with its program changed."""
    buffer, made = io.BytesIO(), io.BytesIO()
    torch.jit.save(script, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(made, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("program.json"):
                program = json.loads(data)
                change(program)
                data = json.dumps(program).encode()
            new.writestr(name, data)
    made.seek(0)
    return made


def first_call(program):
    return program["function"]["tapes"][0]["calls"][0]


@pytest.mark.parametrize("change", [
    lambda p: first_call(p).update(name="os.system"),
    lambda p: first_call(p).update(name="as_strided"),
    lambda p: first_call(p).update(kind="python"),
    lambda p: first_call(p).update(inputs=[{"var": 99}]),
    lambda p: first_call(p).update(outputs=[0]),
    lambda p: first_call(p)["attrs"].update(replay=3),
    lambda p: first_call(p)["attrs"].update(other={"function": "eval"}),
    lambda p: p["function"].update(kind="pickle"),
    lambda p: p["function"].pop("tapes"),
    lambda p: p["tensors"].append({"dtype": "object", "shape": [1], "order": [0]}),
    lambda p: p["tensors"].append({"dtype": "float32", "shape": [1 << 40], "order": [0]}),
    lambda p: p["function"]["tapes"][0].update(attributes=[[5, "x.__class__"]]),
    lambda p: p["function"]["tapes"][0].update(result={"var": -1}),
], ids=range(13))  # fmt: skip
def test_a_file_that_was_tampered_with_is_refused(change):
    script = torch.jit.trace(lambda x: F.softmax(x, 0) + 1, torch.ones(3))
    with pytest.raises(RuntimeError):
        torch.jit.load(rewritten(script, change))


@pytest.mark.parametrize("function, shape, name, value", [
    (lambda x: x.expand(4, 3), (1, 3), "shape", [4, 3_000_000]),
    (lambda x: x.unfold(0, 2, 1), (5,), "size", 2_000_000_000),
    (lambda x: F.unfold(x, 2), (1, 1, 4, 4), "kernel", [-9, 2]),
])  # fmt: skip
def test_sizes_that_reach_beyond_memory_are_refused(function, shape, name, value):
    x = torch.ones(*shape)

    def change(program):
        for call in program["function"]["tapes"][0]["calls"]:
            if name in call["attrs"]:
                call["attrs"][name] = {"tuple": value} if isinstance(value, list) else value

    with pytest.raises(RuntimeError):
        torch.jit.load(rewritten(torch.jit.trace(function, x), change))(x)


def test_damaged_and_foreign_files_are_refused(tmp_path):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(lambda x: x + torch.arange(50.0), torch.ones(50)), buffer)
    content = buffer.getvalue()
    for damaged in (b"", b"hello", content[: len(content) // 2], content.replace(b"flambeau.jit", b"flambeau.jjj")):
        with pytest.raises(RuntimeError):
            torch.jit.load(io.BytesIO(damaged))
    torch.save({"a": torch.ones(2)}, tmp_path / "plain.pt")
    with pytest.raises(RuntimeError, match="no format"):
        torch.jit.load(tmp_path / "plain.pt")


def test_own_generators_cannot_be_traced():
    stream = torch.Generator().manual_seed(1)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="generator of its own"):
        warnings.simplefilter("ignore")
        torch.jit.trace(lambda x: x + torch.rand(2, generator=stream), torch.ones(2), check_trace=False)
