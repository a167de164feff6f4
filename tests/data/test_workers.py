"""Worker processes: same batches, errors brought home, nothing left behind."""

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import weakref
from multiprocessing import resource_tracker

import numpy as np
import pytest

import flambeau as torch
from flambeau.data import transport, workers
from flambeau.data.collate import in_worker
from flambeau.utils.data import DataLoader, IterableDataset, TensorDataset, get_worker_info

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="datasets here need fork")


class Pictures:
    """Large samples, with a mishap at sample 10."""

    def __init__(self, mishap=None, pause=0.0):
        self.mishap, self.pause = mishap, pause

    def __len__(self):
        return 24

    def __getitem__(self, i):
        time.sleep(self.pause)
        if i == 10 and self.mishap:
            self.mishap()
        return torch.full((64, 64), float(i)), i


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        return iter(range(info.id, self.n, info.num_workers))


@pytest.fixture(autouse=True)
def nothing_is_left():
    """No process, no descriptor, no mapping stays behind a test."""
    resource_tracker.ensure_running()   # multiprocessing keeps one for the spawn method
    folder = "/proc/self/fd"
    before = len(os.listdir(folder)) if os.path.isdir(folder) else 0
    yield
    gc.collect()
    assert not multiprocessing.active_children()
    if before:
        assert len(os.listdir(folder)) <= before
        with open("/proc/self/maps") as maps:
            assert "flambeau-batch" not in maps.read()


@pytest.mark.parametrize("count", [1, 2])
def test_same_batches_as_without_workers(count):
    def run(workers):
        torch.manual_seed(7)
        return [(x.tolist(), i.tolist()) for x, i in DataLoader(Pictures(), 5, shuffle=True, num_workers=workers)]

    assert run(count) == run(0)


def test_batches_can_be_kept_and_written_to():
    batches = list(DataLoader(Pictures(), 1, num_workers=2))
    assert [x[0, 0, 0].item() for x, _ in batches] == list(range(24))
    batches[3][0].add_(1)
    assert batches[3][0][0, 5, 5].item() == 4


@pytest.mark.parametrize("value", [
    torch.arange(3), torch.ones(200, 200).to(torch.bfloat16), torch.ones(2, requires_grad=True), torch.zeros(0, 3),
    torch.arange(12.0).reshape(3, 4).t(), np.arange(5), "text", {"a": [1, (2.0, b"x")]}, torch.tensor(True),
], ids=repr)
def test_transport_keeps_values(value):
    here, there = multiprocessing.Pipe()
    receiver = transport.Receiver(here)
    for inline in (10**6, 0):
        transport.Sender(there, inline, None).send(transport.pack(value))
        got = transport.unpack(receiver.receive())
        assert type(got) is type(value)
        if isinstance(value, torch.Tensor):
            assert got.dtype is value.dtype and got.shape == value.shape and got.requires_grad == value.requires_grad
            assert got.tolist() == value.tolist()
        elif isinstance(value, np.ndarray):
            got += 1        # the memory may be written to
            assert got.tolist() == (value + 1).tolist()
        else:
            assert got == value
    here.close()
    there.close()
    del got


def test_transport_by_file(monkeypatch, tmp_path):
    monkeypatch.setattr(transport, "HAS_DESCRIPTORS", False)
    batches = [x.tolist() for x, _ in DataLoader(Pictures(), 5, num_workers=1)]
    assert batches[0] == Pictures()[0][0].new_tensor([[[float(i)] * 64] * 64 for i in range(5)]).tolist()


def test_a_view_sends_only_what_it_shows():
    parts = transport.pack(torch.zeros(1000, 1000)[5])
    assert sum(map(transport.size_of, parts)) < 6000


@pytest.mark.skipif(sys.platform != "linux", reason="the values were recorded on Linux")
def test_workers_are_seeded_as_pytorchs():
    class Draws:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return torch.rand(()).item(), random.random(), float(np.random.rand())

    torch.manual_seed(7)
    found = [[column.tolist() for column in batch] for batch in DataLoader(Draws(), 2, num_workers=2)]
    assert found == [
        [[0.11662513017654419, 0.13414353132247925], [0.9290632898373887, 0.10243784940911504],
         [0.03541536592796235, 0.2915959425421556]],
        [[0.3148404359817505, 0.28084486722946167], [0.5574193789609411, 0.46183154346070987],
         [0.240715442815568, 0.9137194064224758]],
    ]


def test_streams_are_divided_by_the_user():
    found = [batch.tolist() for batch in DataLoader(Stream(11), 2, num_workers=2)]
    assert found == [[0, 2], [1, 3], [4, 6], [5, 7], [8, 10], [9]]
    assert [b.tolist() for b in DataLoader(Stream(7), 3, drop_last=True, num_workers=2)] == [[0, 2, 4], [1, 3, 5]]


def test_worker_info_and_init():
    class Who:
        def __len__(self):
            return 4

        def __getitem__(self, i):
            info = get_worker_info()
            with pytest.raises(RuntimeError, match="Cannot assign attributes"):
                info.id = 5
            return info.id, info.num_workers, info.seed - info.id, os.environ["STARTED"]

    def start(number):
        os.environ["STARTED"] = str(number)

    rows = list(DataLoader(Who(), None, num_workers=2, worker_init_fn=start))
    assert [row[0] for row in rows] == [0, 1, 0, 1] and [row[3] for row in rows] == ["0", "1", "0", "1"]
    assert len({row[2] for row in rows}) == 1 and get_worker_info() is None


def fail(error):
    raise error


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


@pytest.mark.parametrize("error, kind", [
    (ValueError("boom"), ValueError), (KeyError("boom"), KeyError), (OSError(2, "boom"), OSError),
    (TwoArguments("boom", 2), RuntimeError), (StopIteration("boom"), StopIteration),
])
def test_errors_come_home_with_their_traceback(error, kind):
    expected = rf"Caught {type(error).__name__} in DataLoader worker process \d.\n(.|\n)*in fail\n(.|\n)*boom"
    with pytest.raises(kind, match=expected):
        next_all(DataLoader(Pictures(lambda: fail(error)), 4, num_workers=2))


def next_all(loader):
    """list(loader), in which a StopIteration that was brought home would pass for the end."""
    it = iter(loader)
    for _ in range(len(loader)):
        next(it)


def test_iteration_goes_on_after_an_error():
    it = iter(DataLoader(Pictures(lambda: fail(ValueError())), 4, num_workers=2))
    found = []
    for _ in range(6):
        try:
            found.append(next(it)[1].tolist()[0])
        except ValueError:
            found.append("error")
    assert found == [0, 4, "error", 12, 16, 20]
    with pytest.raises(StopIteration):
        next(it)


def test_asking_far_ahead():
    loader = DataLoader(range(3000), 1, num_workers=1, prefetch_factor=2000)
    assert [batch.item() for batch in loader] == list(range(3000))


def test_error_in_the_init_function():
    with pytest.raises(ZeroDivisionError, match="Caught ZeroDivisionError in DataLoader worker process 0"):
        list(DataLoader([1, 2], num_workers=1, worker_init_fn=lambda number: 1 // 0))


def test_a_sample_that_cannot_be_sent():
    with pytest.raises((TypeError, AttributeError), match="worker process 0"):
        list(DataLoader([lambda: 1], None, num_workers=1))


def test_a_result_of_autograd_cannot_be_sent():
    loader = DataLoader(TensorDataset(torch.ones(2, requires_grad=True)), num_workers=1)
    with pytest.raises(RuntimeError, match="non-leaf"):
        list(loader)


@pytest.mark.parametrize("death, text", [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9"), (lambda: os._exit(3), "exit code 3"),
])
def test_a_worker_that_dies(death, text):
    with pytest.raises(RuntimeError, match=rf"worker \(pid\(s\) \d+\) exited unexpectedly \({text}\)"):
        list(DataLoader(Pictures(death), 4, num_workers=2))


def test_timeout(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.1)
    it = iter(DataLoader(Pictures(pause=2), 2, num_workers=1, timeout=0.2))
    with pytest.raises(RuntimeError, match=r"timed out after 0\.2 seconds"):
        next(it)
    with pytest.raises(RuntimeError, match="shut down"):
        next(it)


def test_leaving_early():
    started = time.monotonic()
    for _, numbers in DataLoader(Pictures(), 2, num_workers=2):
        if 4 in numbers.tolist():
            break
    gc.collect()
    assert not multiprocessing.active_children() and time.monotonic() - started < 3


def test_persistent_workers_serve_every_pass():
    loader = DataLoader(Pictures(), 4, num_workers=2, persistent_workers=True)
    pids = set()
    for _ in range(3):
        for _, numbers in loader:       # left early: what is on its way must not reach the next pass
            assert numbers.tolist() == [0, 1, 2, 3]
            break
        pids.add(tuple(process.pid for process in multiprocessing.active_children()))
    assert [numbers.tolist()[0] for _, numbers in loader] == [0, 4, 8, 12, 16, 20]
    assert len({frozenset(p) for p in pids}) == 1
    del loader


def test_persistent_streams_start_over():
    loader = DataLoader(Stream(5), 2, num_workers=2, persistent_workers=True)
    assert [b.tolist() for b in loader] == [b.tolist() for b in loader] == [[0, 2], [1, 3], [4]]
    del loader


def test_out_of_order():
    class Uneven:
        def __len__(self):
            return 6

        def __getitem__(self, i):
            time.sleep(0.5 if i == 0 else 0)
            return i

    found = list(DataLoader(Uneven(), None, num_workers=2, in_order=False))
    assert sorted(found) == list(range(6)) and found[0] != 0
    assert list(DataLoader(Uneven(), None, num_workers=2)) == list(range(6))


def test_spawn():
    data = TensorDataset(torch.arange(6), torch.ones(6, 100, 100))
    loader = DataLoader(data, 3, num_workers=1, multiprocessing_context="spawn")
    assert [numbers.tolist() for numbers, _ in loader] == [[0, 1, 2], [3, 4, 5]]


def test_too_many_workers_warn():
    with pytest.warns(UserWarning, match="suggested max number"):
        DataLoader([1], num_workers=10_000)


SCRIPT = textwrap.dedent("""
    import time
    from flambeau.utils.data import DataLoader

    class Slow:
        def __len__(self):
            return 1000
        def __getitem__(self, i):
            time.sleep(0.02)
            return i

    for i, batch in enumerate(DataLoader(Slow(), 2, num_workers=2)):
        if i == 2:
            print("running", flush=True)
""")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_interruption_leaves_no_process(kind):
    folder = os.path.dirname(os.path.dirname(torch.__file__))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": folder})
    assert process.stdout.readline() == "running\n"
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)    # as the terminal does it
    else:
        process.kill()                  # without a word to the workers
    # Returns when the last process that holds the pipes has ended.
    _, errors = process.communicate(timeout=20)
    assert errors.count("Traceback") <= (1 if kind == signal.SIGINT else 0), errors


def memory_of(batch):
    """The address of a batch."""
    return batch.data_ptr()


@pytest.mark.skipif(not transport.HAS_DESCRIPTORS, reason="memory is shared by descriptor")
def test_memory_is_used_again_when_a_batch_is_gone():
    places = {memory_of(x) for x, _ in DataLoader(Pictures(), 2, num_workers=1)}
    assert len(places) <= 2 + workers.HELD  # of 12 batches
    kept = list(DataLoader(Pictures(), 2, num_workers=1))
    assert len({memory_of(x) for x, _ in kept}) == 12
    assert [x[0, 0, 0].item() for x, _ in kept] == list(range(0, 24, 2))


def answer_with_minimum(connection, x):
    """Wait for a word, then look at `x`."""
    connection.recv()
    connection.send(float(x.min()))


@pytest.mark.skipif(not transport.HAS_DESCRIPTORS, reason="memory is shared by descriptor")
def test_views_keep_a_batch_and_a_fork_keeps_it_for_good():
    seen, held = [], []
    for x, _ in DataLoader(Pictures(), 2, num_workers=1):
        value = x[0, 0, 0].item()
        held.append((value, x[1:, :1].numpy()))  # a view is enough
        if value == 4:
            here, there = multiprocessing.Pipe()
            child = multiprocessing.get_context("fork").Process(target=answer_with_minimum, args=(here, x))
            child.start()
            seen.append(value)
        del x
    assert all((array == value + 1).all() for value, array in held)
    held.clear()
    there.send("now")  # the loader is at its end; the child still sees what it was forked with
    assert there.recv() == seen[0]
    child.join()
    here.close()
    there.close()


def test_blocks_serve_one_batch_at_a_time():
    if not transport.HAS_DESCRIPTORS:
        pytest.skip("memory is shared by descriptor")
    here, there = multiprocessing.Pipe()
    sender, receiver = transport.Sender(there, 0, None, blocks=2), transport.Receiver(here)

    def send(size):
        sender.send(transport.pack(torch.full((size,), float(size))))
        return transport.unpack(receiver.receive())

    a, b, c = send(1000), send(1000), send(1000)  # the third finds no block
    assert len({memory_of(x) for x in (a, b, c)}) == 3
    place, tail = memory_of(a), a[500:]
    del a
    assert memory_of(send(1000)) != place and tail.tolist() == [1000.0] * 500
    del tail
    assert memory_of(send(900)) == place  # smaller, but not by much
    larger = send(50_000)  # takes the place of the free block
    assert larger.tolist() == [50_000.0] * 50_000 and b.tolist() == c.tolist() == [1000.0] * 1000
    place = memory_of(larger)
    del larger
    assert memory_of(send(50_000)) == place
    del b, c
    for end in (here, there):
        end.close()


class Nested:
    """Samples of all that can be collated, large and small."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        large = torch.full((80, 80), float(i))
        return {"large": large, "array": np.full((80, 80), i), "strided": large.t(), "half": large.half(), "small": i,
                "pair": (large[0], "text"), "list": [large, large.bool()], "scalar": torch.tensor(i)}


def test_nested_batches_are_put_together_on_their_way():
    def described(value):
        if isinstance(value, dict):
            return {key: described(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value), [described(item) for item in value]
        return (value.dtype, value.tolist()) if isinstance(value, torch.Tensor) else value

    with_workers, without = (list(DataLoader(Nested(), 4, num_workers=n)) for n in (2, 0))
    assert described(with_workers) == described(without)
    assert with_workers[0]["large"].is_contiguous()


class Uneven(Pictures):
    def __getitem__(self, i):
        return torch.zeros(64, 64 + i)


def test_unequal_large_samples_raise():
    with pytest.raises(RuntimeError, match=r"equal size, but got \[64, 64\] at entry 0 and \[64, 65\] at entry 1"):
        next(iter(DataLoader(Uneven(), 4, num_workers=1)))


def test_packing_leaves_no_garbage():
    samples = [torch.zeros(100, 100) for _ in range(2)]
    alive = [weakref.ref(x._array) for x in samples]
    gc.disable()
    try:
        parts = transport.pack(in_worker(torch.utils.data.default_collate)(samples))
        assert len(parts[1]) == 2
        del samples, parts
        assert not any(array() is not None for array in alive)
    finally:
        gc.enable()


def test_a_collate_fn_of_ones_own_sees_tensors():
    def collate_fn(batch):
        x, i = torch.utils.data.default_collate(batch)
        return x.sum(), i

    sums = [x.item() for x, _ in DataLoader(Pictures(), 2, num_workers=1, collate_fn=collate_fn)]
    assert sums == [64 * 64 * (2 * i + 1) for i in range(0, 24, 2)]
