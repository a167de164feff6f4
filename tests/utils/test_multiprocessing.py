"""flambeau.multiprocessing: Python's, with `spawn` and the errors of the processes it starts."""

import os
import signal
import time

import pytest

import flambeau as torch
import flambeau.multiprocessing as mp


def put_sum(rank, queue, x):
    queue.put((rank, (x * (rank + 1)).sum()))


def one_fails(rank):
    if rank == 1:
        raise ValueError("rank one")
    time.sleep(60)


def leaves(rank):
    os._exit(3)


def is_killed(rank):
    os.kill(os.getpid(), signal.SIGTERM)


def test_spawned_processes_send_tensors():
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(put_sum, args=(queue, torch.ones(3)), nprocs=2)
    assert sorted((rank, total.item()) for rank, total in (queue.get(), queue.get())) == [(0, 3.0), (1, 6.0)]


def test_the_first_failure_ends_the_others():
    began = time.monotonic()
    with pytest.raises(mp.ProcessRaisedException, match="ValueError: rank one") as caught:
        mp.start_processes(one_fails, nprocs=2, start_method="fork")
    assert caught.value.error_index == 1 and time.monotonic() - began < 40


def test_exits_are_reported():
    with pytest.raises(mp.ProcessExitedException, match="process 0 terminated with exit code 3") as caught:
        mp.start_processes(leaves, start_method="fork")
    assert caught.value.exit_code == 3
    with pytest.raises(mp.ProcessExitedException, match="SIGTERM") as caught:
        mp.start_processes(is_killed, start_method="fork")
    assert caught.value.signal_name == "SIGTERM" and caught.value.exit_code == -signal.SIGTERM


def test_without_waiting():
    queue = mp.get_context("fork").SimpleQueue()
    context = mp.start_processes(put_sum, (queue, torch.ones(2)), join=False, start_method="fork")
    assert len(context.pids()) == 1
    assert queue.get()[1].item() == 2.0
    while not context.join(5):
        continue


def test_names_of_python_and_strategies():
    assert mp.Process is not None and mp.cpu_count() == os.cpu_count()
    before = mp.get_sharing_strategy()
    mp.set_sharing_strategy("file_system")
    assert mp.get_sharing_strategy() == "file_system"
    mp.set_sharing_strategy(before)
    with pytest.raises(AssertionError, match="no sharing strategy 'clouds'"):
        mp.set_sharing_strategy("clouds")
