"""`flambeau run` and `as_torch()`: scripts written for PyTorch, each in a process of its own."""

import textwrap

import pytest

from flambeau.absent import PAGE
from tests.recorded import ROOT, python, run

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


MISSING = [
    ("import torch; torch.no_such_name", "AttributeError: module 'torch' has no attribute 'no_such_name'"),
    ("import torch.nn as nn; nn.NoLayer", "AttributeError: module 'torch.nn' has no attribute 'NoLayer'"),
    ("import torch.no_module", "ModuleNotFoundError: No module named 'torch.no_module'"),
    ("import torch.onnx; torch.onnx.Export", "AttributeError: 'torch.onnx.Export'"),
    ("from torch.onnx import export; export()", "NotImplementedError: 'torch.onnx.export'"),
    ("import torch.library; torch.library.custom_op('a::b')", "AttributeError: 'torch.library.custom_op'"),
    ("import torch.distributed as d; d.init_process_group()", "AttributeError: 'torch.distributed.init_process"),
    ("import torch.fx as fx; fx.symbolic_trace(None)", "NotImplementedError: 'torch.fx.symbolic_trace'"),
    ("from torch.nn.parallel import DistributedDataParallel as D; D(1)",
     "NotImplementedError: 'torch.nn.parallel.DistributedDataParallel'"),
    ("import torchvision; torchvision.no_such_name", "AttributeError: module 'torchvision' has no attribute"),
]


def test_missing_names_raise_at_their_use(tmp_path):
    result = run(script(tmp_path, f"""
        for text in {[text for text, _ in MISSING]!r}:
            try:
                exec(text)
            except Exception as error:
                print(f"{{type(error).__name__}}: {{error}}")
    """))
    lines = result.stdout.splitlines()
    assert len(lines) == len(MISSING), result.stderr
    for line, (_, error) in zip(lines, MISSING):
        assert line.startswith(error) and PAGE in line


def test_import_of_a_missing_name_points_to_the_page(tmp_path):
    last = run(script(tmp_path, "from torch.nn import NoLayer")).stderr.splitlines()[-1]
    assert last.startswith("ImportError: cannot import name 'NoLayer'") and PAGE in last


def test_the_page_names_every_module_that_is_missing():
    result = python("-c", """if True:
        import importlib, flambeau.torch_alias as alias
        alias.as_torch()
        for name in sorted(alias.OPTIONAL):
            if isinstance(importlib.import_module(name), alias.MissingModule):
                print(name)""")
    missing = result.stdout.split()
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert "torch.onnx" in missing or "torch.sparse" in missing, result.stderr
    assert [name for name in missing if name not in page] == []


def test_questions_about_what_is_missing_have_answers(tmp_path):
    result = run(script(tmp_path, """
        import torch, torch.distributed as dist, torch.fx, torch.jit
        from torch.jit import Final, ScriptModule
        from torch.nn.parallel import DistributedDataParallel

        @torch.jit.ignore
        def one(): return 1

        @torch.jit.unused
        @torch.fx.wrap
        def two(): return 2

        net = torch.nn.Linear(1, 1)
        print(dist.is_available(), dist.is_initialized(), torch.jit.is_scripting(), torch.jit.is_tracing(),
              torch.compiler.is_compiling(), torch.accelerator.is_available(), torch.xpu.is_available(),
              isinstance(net, (ScriptModule, DistributedDataParallel, torch.fx.GraphModule)))
        print(one() + two(), torch.jit.annotate(int, 3), hasattr(torch, "_dynamo"), torch.version.cuda)
    """))
    assert result.stdout == "False " * 7 + "False\n3 3 False None\n", result.stderr


WORKERS = """
    import atexit, os, sys
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Squares(Dataset):
        def __len__(self): return 8
        def __getitem__(self, i): return torch.tensor(float(i * i)), os.getpid()

    if __name__ == "__main__":
        atexit.register(lambda: print("at exit", sys.modules["__main__"].Squares.__name__))
        loader = DataLoader(Squares(), batch_size=4, num_workers=2, multiprocessing_context=sys.argv[1])
        values, processes = zip(*loader)
        print(torch.cat(values).tolist(), os.getpid() in torch.cat(processes).tolist())
"""


@pytest.mark.parametrize(("method", "module"), [("fork", False), ("spawn", False), ("forkserver", False),
                                                ("spawn", True)])
def test_workers_of_a_data_loader(tmp_path, method, module):
    path = script(tmp_path, WORKERS, "squares.py")
    result = run(*(["-m", "squares"] if module else [path]), method, cwd=tmp_path)
    assert result.stdout == f"{[float(i * i) for i in range(8)]} False\nat exit Squares\n", result.stderr


def test_main_is_the_script(tmp_path):
    text = """
        import pickle, sys, __main__
        import torch

        class Net(torch.nn.Linear):
            pass

        print(__main__.Net is Net, __main__.__file__ == __file__, sys.path[0], sys.argv[0], __spec__ and __spec__.name)
        print(type(pickle.loads(pickle.dumps(Net(1, 1)))) is Net, __package__, __doc__, __name__)
    """
    path = script(tmp_path, text, "entry.py")
    expected = f"True True {tmp_path} {{}} {{}}\nTrue {{}} None __main__\n"
    assert run(path).stdout == expected.format(path, None, None)
    assert run("entry.py", cwd=tmp_path).stdout == expected.format("entry.py", None, None)
    assert run("-m", "entry", cwd=tmp_path).stdout == expected.format(path, "entry", "")


def test_packages_folders_and_relative_imports(tmp_path):
    for folder in ("package", "folder"):
        (tmp_path / folder).mkdir()
    script(tmp_path, "two = 2", "package/__init__.py")
    script(tmp_path, "from . import two\nimport torch\nprint(two, torch.tensor(two), __name__)", "package/__main__.py")
    script(tmp_path, "import torch\nprint(torch.pi > 3, __name__)", "folder/__main__.py")
    assert run("-m", "package", cwd=tmp_path).stdout == "2 tensor(2) __main__\n"
    assert run(tmp_path / "folder").stdout == "True __main__\n"


def test_script_that_does_not_compile(tmp_path):
    result = run(script(tmp_path, "import torch\nx = = 1"))
    lines = result.stderr.splitlines()
    assert result.returncode == 1 and lines[-1].startswith("SyntaxError")
    assert lines[0].endswith('script.py", line 2') and "cli/run.py" not in result.stderr


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
