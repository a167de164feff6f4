"""`flambeau run` and `as_torch()`: scripts written for PyTorch, each in a process of its own."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]

TRAIN = """
    import argparse, sys
    import torch, torch.nn as nn, torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset
    import torch.optim as optim
    import torch.backends.cudnn as cudnn
    import flambeau

    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int)
    epochs = parser.parse_args().epochs
    assert torch is flambeau and F is flambeau.nn.functional and nn is flambeau.nn and optim is flambeau.optim
    assert flambeau.nn.__spec__.name == "flambeau.nn"
    cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [2.0], [3.0]])
    net = nn.Linear(3, 1).to(device)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    for _ in range(epochs):
        for inputs, targets in DataLoader(TensorDataset(x, y), 16, shuffle=True):
            optimizer.zero_grad()
            F.mse_loss(net(inputs), targets).backward()
            optimizer.step()
    print(__name__, sys.argv[1:], F.mse_loss(net(x), y).item() < 0.01)
"""


def script(folder, text, name="script.py"):
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def python(*arguments, cwd=None):
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=environment, timeout=60
    )


def run(*arguments, cwd=None):
    return python("-m", "flambeau", "run", *arguments, cwd=cwd)


def test_script_for_pytorch_runs_with_its_arguments(tmp_path):
    result = run(script(tmp_path, TRAIN), "--epochs", 6)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "__main__ ['--epochs', '6'] True\n"


def test_help_after_the_script_is_the_scripts(tmp_path):
    result = run(script(tmp_path, TRAIN), "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("usage: script.py")


def test_module_and_its_neighbours(tmp_path):
    script(tmp_path, "import torch, sys\nfrom neighbour import two\nprint(torch.ones(two).sum().item(), sys.argv[1:])",
           "entry.py")
    script(tmp_path, "two = 2", "neighbour.py")
    assert run("-m", "entry", "-v", cwd=tmp_path).stdout == "2.0 ['-v']\n"
    assert run("sub/../entry.py", cwd=tmp_path).returncode == 2
    assert run(tmp_path / "entry.py", "-v", cwd=ROOT).stdout == "2.0 ['-v']\n"


@pytest.mark.parametrize(("line", "status"), [("sys.exit(3)", 3), ("sys.exit('no')", 1), ("sys.exit()", 0)])
def test_exit_status_passes_through(tmp_path, line, status):
    assert run(script(tmp_path, f"import sys\n{line}")).returncode == status


def test_traceback_starts_in_the_script(tmp_path):
    result = run(script(tmp_path, "import torch\ndef f():\n    torch.ones(2) @ torch.ones(3)\nf()"))
    lines = result.stderr.splitlines()
    assert result.returncode == 1
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('script.py", line 4, in <module>')
    assert lines[-1].startswith("RuntimeError")
    assert "runpy" not in result.stderr and "cli/run.py" not in result.stderr


def test_missing_script_or_module(tmp_path):
    result = run(tmp_path / "none.py")
    assert result.returncode == 2 and "none.py" in result.stderr
    result = run("-m", "no_module_of_this_name")
    assert result.returncode == 2 and "no_module_of_this_name" in result.stderr


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import torch; torch.no_such_name", "AttributeError: module 'torch' has no attribute 'no_such_name'"),
        ("import torch.nn as nn; nn.NoLayer", "AttributeError: module 'torch.nn' has no attribute 'NoLayer'"),
        ("import torch.no_module", "ModuleNotFoundError: No module named 'torch.no_module'"),
        ("import torch.onnx; torch.onnx.export", "AttributeError: 'torch.onnx.export'"),
    ],
)
def test_missing_name_raises_at_its_use(tmp_path, text, error):
    last = run(script(tmp_path, text)).stderr.splitlines()[-1]
    assert last.startswith(error) and "docs/running-pytorch-scripts.md" in last


def test_nothing_is_aliased_unless_asked():
    result = python("-c", "import flambeau, sys; import flambeau.nn; print('torch' in sys.modules)")
    assert result.stdout == "False\n", result.stderr


def test_as_torch_in_python_is_the_same_modules():
    result = python("-c", """if True:
        import sys, flambeau
        flambeau.as_torch(); flambeau.as_torch()
        import torch.nn.functional, torch.utils.data, torchvision
        assert torch.nn.functional is sys.modules["flambeau.nn.functional"]
        assert torchvision is flambeau.vision and torch.utils.data is flambeau.utils.data
        assert sum(type(finder).__name__ == "TorchFinder" for finder in sys.meta_path) == 1
        import pickle
        assert pickle.loads(pickle.dumps(torch.nn.ReLU())).__module__.startswith("flambeau.")""")
    assert result.returncode == 0, result.stderr


def test_as_torch_refuses_once_pytorch_is_there():
    result = python("-c", """if True:
        import sys, types, flambeau
        sys.modules["torch"] = types.ModuleType("torch")
        flambeau.as_torch()""")
    assert result.stderr.splitlines()[-1].startswith("RuntimeError: as_torch(): torch itself is already imported")


@pytest.mark.skipif(importlib.util.find_spec("einops") is None, reason="einops is not installed")
def test_einops(tmp_path):
    result = run(script(tmp_path, """
        import torch
        from einops import einsum, rearrange, reduce, repeat
        from einops.layers.torch import EinMix, Rearrange
        x = torch.arange(24.0).reshape(2, 3, 4).requires_grad_()
        assert rearrange(x, "a b c -> c (a b)").equal(x.permute(2, 0, 1).reshape(4, 6))
        assert repeat(x, "a b c -> a b c r", r=2).shape == (2, 3, 4, 2)
        assert einsum(x, x, "a b c, a b d -> c d").allclose(torch.einsum("abc,abd->cd", x, x))
        net = torch.nn.Sequential(Rearrange("a b c -> a (b c)"), torch.nn.Linear(12, 4))
        assert net(x).shape == (2, 4)
        assert EinMix("a b c -> a b d", weight_shape="c d", c=4, d=5)(x).shape == (2, 3, 5)
        reduce(x, "a b c -> b", "mean").sum().backward()
        assert x.grad.allclose(torch.full_like(x, 1 / 8))
    """))
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(importlib.util.find_spec("torchsummary") is None, reason="torchsummary is not installed")
def test_torchsummary(tmp_path):
    result = run(script(tmp_path, """
        import torchvision
        from torchsummary import summary
        summary(torchvision.models.squeezenet1_1(), (3, 64, 64), device="cpu")
    """))
    assert result.returncode == 0, result.stderr
    assert "Total params: 1,235,496" in result.stdout and "[-1, 512, 3, 3]" in result.stdout
