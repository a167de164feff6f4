"""The processes that run LLVM: they work at once, leave, and nothing depends on them."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import pytest

from flambeau.backends.llvm import jit, workers

SQUARE = "define i64 @square(i64 %x) {\n  %y = mul i64 %x, %x\n  ret i64 %y\n}"
pytestmark = pytest.mark.skipif(not workers.usable(), reason="LLVM runs in this process here")


def times(number):
    """A module whose function `times` multiplies by a number."""
    return f"define i64 @times(i64 %x) {{\n  %y = mul i64 %x, {number}\n  ret i64 %y\n}}"


def call(object_file, name, argument):
    code = jit.load_object(object_file, [name])
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address(name))(argument)


def test_a_batch_keeps_its_order():
    batch = workers.Batch(1, 8)
    for number in range(8):
        batch.add(times(number))
    assert [call(made, "times", 5) for made in batch.objects()] == [5 * number for number in range(8)]


def test_a_batch_that_is_given_up_lets_its_threads_go():
    batch = workers.Batch(1, 2)
    batch.add(times(2))
    batch.close()
    for thread in batch.threads:
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_a_mistake_in_one_module_is_told_and_the_next_batch_works():
    batch = workers.Batch(1, 2)
    batch.add(times(2))
    batch.add("define void @f( {")
    with pytest.raises(RuntimeError, match="expected"):
        batch.objects()
    assert call(jit.compile_module(SQUARE), "square", 4) == 16


def test_when_somebody_ends_a_process_this_one_compiles_itself():
    worker = workers.Worker()
    worker.process.send_signal(signal.SIGKILL)
    worker.process.wait()
    with pytest.raises(workers.Broken):
        worker.compile(SQUARE, 1)
    workers._put_back(worker)
    assert call(jit.compile_module(SQUARE), "square", 6) == 36


def test_where_processes_end_at_once_they_are_not_tried_again(monkeypatch, tmp_path):
    program = tmp_path / "codegen.py"
    program.write_text("raise SystemExit(1)")
    with workers._lock:
        for worker in workers._idle:
            worker.close()
        workers._idle.clear()
    monkeypatch.setattr(workers, "_PROGRAM", program)
    monkeypatch.setattr(workers, "_refused", False)
    assert call(jit.compile_module(SQUARE), "square", 7) == 49
    assert not workers.usable()


def test_a_crash_of_llvm_is_an_error_and_not_ours(monkeypatch):
    worker = workers.Worker()
    worker.process.send_signal(signal.SIGSEGV)
    with pytest.raises(RuntimeError, match="crashed"):
        worker.compile(SQUARE, 1)


def test_processes_leave_when_they_are_not_needed(monkeypatch):
    monkeypatch.setattr(workers, "IDLE", 0.05)
    jit.compile_module(SQUARE)
    with workers._lock:
        kept = list(workers._idle)
    assert kept
    if workers._retirement is not None:  # set off before, for the usual time
        workers._retirement.cancel()
        workers._retirement = None
    workers._put_back(workers._take())
    for _ in range(100):
        if not workers._idle:
            break
        time.sleep(0.05)
    assert not workers._idle
    for worker in kept:
        worker.process.wait(timeout=5)
        assert worker.process.returncode == 0
    assert call(jit.compile_module(SQUARE), "square", 9) == 81


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_its_own():
    jit.compile_module(SQUARE)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        fine = not workers._idle and call(jit.compile_module(SQUARE), "square", 5) == 25
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert call(jit.compile_module(SQUARE), "square", 3) == 9


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_program_is_the_same_with_and_without_them(processes):
    script = (
        "import sys, flambeau as torch\n"
        "f = torch.compile(lambda x: (x.exp() + 1).log().sum(0), fullgraph=True)\n"
        "x = torch.linspace(-1, 1, 12).reshape(3, 4)\n"
        "f(x); print(*f(x).tolist(), 'llvmlite.binding' in sys.modules)\n"
    )
    environment = {**os.environ, "FLAMBEAU_CACHE": "0", "FLAMBEAU_COMPILE_PROCESSES": processes}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    *numbers, loaded = run.stdout.split()
    assert [round(float(n), 5) for n in numbers] == pytest.approx([1.8253, 2.0753, 2.3481, 2.6435], abs=1e-4)
    assert loaded == ("True" if processes == "0" else "False")
