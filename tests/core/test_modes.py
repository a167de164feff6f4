"""History is switched per thread, whatever the other threads do."""

import threading

import flambeau as torch
from flambeau.core.modes import modes, silent


def in_thread(function):
    """What `function` returns in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def records() -> bool:
    x = torch.ones(3, requires_grad=True)
    results = [x + x, x * 2.0, x.exp(), x.sum(), x @ x, x.view(3), torch.cat([x, x])]
    seen = {y.requires_grad for y in results} | {y.grad_fn is not None for y in results}
    assert len(seen) == 1
    return seen.pop() and torch.is_grad_enabled()


def test_no_grad_stops_only_its_own_thread():
    with torch.no_grad():
        assert not records()
        assert in_thread(records)
        with torch.enable_grad():
            assert records()
        assert not records()
    assert records()


def test_a_thread_that_ends_without_history_leaves_the_others_theirs():
    def leave_it_off():
        torch.set_grad_enabled(False)
        return records()

    for _ in range(3):
        assert not in_thread(leave_it_off)
        assert records()
        assert in_thread(records)  # also where the new thread gets the number of the ended one
    silent.clear()
    assert records() and modes.grad


def test_the_other_switches_belong_to_a_thread_too():
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled()
        assert not in_thread(torch.is_inference_mode_enabled)
        assert in_thread(torch.is_grad_enabled)
    assert not torch.is_inference_mode_enabled()
