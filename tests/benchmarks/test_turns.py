"""Measuring: first steps, rounds, ratios, tables."""

import json

import pytest

from benchmarks import report, summary, turns
from benchmarks.machine import Machine
from benchmarks.peers import IMPLEMENTATIONS, Unit
from benchmarks.worker import Meter, serve, touch
from benchmarks.workloads import WORKLOADS


class Clock:
    """Stands still but for the steps that advance it."""

    now = 0.0

    def __call__(self):
        return self.now


def unit_of(clock, seconds):
    """A unit whose steps take the given seconds, the last for ever."""
    left = list(seconds)

    def step():
        clock.now += left.pop(0) if len(left) > 1 else left[0]
        return 1.0

    return Unit(step, "1")


def facts(*seconds):
    return {"seconds": sorted(seconds)[len(seconds) // 2], "rounds": [{"seconds": value} for value in seconds]}


def test_first_calls_are_what_goes_beyond_ordinary_steps():
    clock = Clock()
    meter = Meter(unit_of(clock, [5.0, 2.0, 0.1]), clock, wall=clock)
    assert turns.first_call(meter.first_steps(), meter.step_seconds) == pytest.approx(6.8)


def test_a_round_is_the_median_of_its_repetitions():
    clock = Clock()
    meter = Meter(unit_of(clock, [0.1, 0.1, 0.1, 0.1, 9.0, 0.1]), clock, wall=clock)
    meter.first_steps()
    answer = meter.round(seconds=0.5, repetitions=5)
    assert answer["seconds"] == pytest.approx(0.1) and answer["steps"] == 5


def test_a_long_step_is_one_repetition():
    clock = Clock()
    meter = Meter(unit_of(clock, [3.0]), clock, wall=clock)
    meter.first_steps()
    assert meter.round(seconds=1.0, repetitions=5)["steps"] == 1


def test_the_worker_answers_each_request():
    clock, answers = Clock(), []
    requests = ['{"do": "round", "seconds": 0.2, "repetitions": 2}', '{"do": "memory"}']
    serve(lambda: unit_of(clock, [1e-3]), "wall", requests, answers.append)
    assert [sorted(answer)[0] for answer in answers] == ["build_seconds", "cpu", "peak_mib"]
    assert json.dumps(answers)


def test_a_worker_runs_flambeau_in_a_process_of_its_own():
    options = turns.Options(rounds=2, seconds=0.01, warm=0.0, cached=False, threads=1)
    found = turns.compare("linreg", ["flambeau-eager", "onnxruntime"], options, say=lambda line: None)
    assert list(found) == ["flambeau-eager"]  # ONNX Runtime does not train
    facts = found["flambeau-eager"]
    assert facts["value"] == pytest.approx(64.37085, rel=1e-5)  # the third step's loss
    assert facts["seconds"] > 0 and facts["steady_peak_mib"] <= facts["peak_mib"] < 200


def test_a_worker_that_fails_tells_why():
    found = turns.compare("linreg", ["jax"], turns.Options(pythons={"": "python-that-is-not"}), say=lambda line: None)
    assert "python-that-is-not" in found["jax"]["skipped"]


def test_ratios_are_paired_by_round():
    assert turns.ratio(facts(2.0, 20.0, 200.0), facts(1.0, 10.0, 100.0)) == 2.0
    assert turns.ratio({"skipped": "not here"}, facts(1.0)) is None


def test_a_missing_library_is_a_reason_not_an_error():
    reason = turns.obstacle("jax", turns.Options(pythons={"jax": "/nowhere/python"}))
    assert reason is not None and "/nowhere/python" in reason


def test_only_our_interpreter_is_ours():
    options = turns.Options(pythons={"": "peers", "jax": "theirs"})
    assert [options.python(name) for name in ("torch", "jax")] == ["peers", "theirs"]
    assert options.python("flambeau") not in ("peers", "theirs")


@pytest.mark.parametrize("seconds, text", [(2.5e-6, "2.5 µs"), (0.1234, "123 ms"), (75.0, "75 s"), (2e-9, "0.002 µs")])
def test_seconds_in_words(seconds, text):
    assert report.in_words(seconds) == text


def test_the_report_shows_ratios_floors_and_reasons():
    here = Machine("cpu", 2, 100.0, 10.0, 20.0, 40.0, 0.1, 32e6, 1e6, "by hand")
    measured = {"version": "1", "peak_mib": 100.0, "steady_peak_mib": 90.0, "first_call": 0.5, "others": 0.0}
    results = {
        "flambeau": {**measured, **facts(1e-3), "cached_call": 0.1},
        "torch": {**measured, **facts(3e-3)},
        "jax": {"skipped": "jax not installed"},
    }
    run = {
        "date": "2026-01-01",
        "python": "3.12",
        "machine": here.facts(),
        "options": {"rounds": 1, "threads": 0, "clock": "wall"},
        "workloads": {"mlp": {"floor": {"ms": 0.5, "bound": "FLOPs"}, "results": results}},
    }
    text = report.markdown(run)
    assert "| mlp | 500 µs | 1 ms | 2× | **3 ms (3.00×)** | – |" in text
    assert "PyTorch eager 3.00× (1 workloads)" in text
    assert "JAX jit skipped: jax not installed." in text
    assert "| mlp | 500 ms (100 ms) |" in text
    assert "Compiling added" not in text


def test_the_summary_puts_runs_together_and_marks_the_fastest_peer():
    def run(**results):
        return {"workloads": {"mlp": {"floor": {"ms": 0.5}, "results": results}}}

    ours = {**facts(1e-3), "steady_peak_mib": 90.0, "compile": 0.5, "cached_compile": -0.1}
    theirs = {"torch": {**facts(3e-3), "steady_peak_mib": 300.0}, "jax": facts(2e-3), "tinygrad": {"skipped": "no"}}
    other = {"workloads": {"linreg": {"floor": None, "results": {"flambeau": {"skipped": "broken"}}}}}
    earlier, later = run(flambeau=ours, torch=facts(9.0)), run(flambeau=ours, **theirs)
    head, lines = summary.rows(summary.merged([other, earlier, later]))
    assert head[3:5] == ["PyTorch eager", "JAX jit"]
    assert lines == [[WORKLOADS["mlp"].summary, "1 ms", "2×", "3×", "**2×**", "0.5 / 0", "90 / 300"]]


def test_every_peer_says_what_it_needs():
    assert all(record.needs and record.title for record in IMPLEMENTATIONS.values())


def test_what_compiling_adds_is_the_middle_of_several_tries(monkeypatch):
    seconds = {"flambeau": iter([0.5, 9.0, 0.6]), "flambeau-eager": iter([0.2, 0.1, 7.0])}

    class Ready:
        name, start = "flambeau", {"first_seconds": [1.0, 1.0, 0.1]}

        def ask(self, do, **request):
            return {"step_seconds": 0.1}

    monkeypatch.setattr(turns, "_start", lambda name, *rest: {"first_seconds": [next(seconds[name])]})
    facts = turns._begin(Ready(), "linreg", turns.Options(tries=3), "")
    assert facts["cached_compile"] == pytest.approx(0.6 - 0.2)
    assert facts["compile"] == pytest.approx(2.1 - 0.2)
    assert facts["cached_call"] == pytest.approx(0.6 - 0.3)


def test_memory_is_touched_again_until_it_is_at_hand(monkeypatch):
    asked = []
    monkeypatch.setattr("benchmarks.worker.subprocess.run", lambda command, **options: asked.append(command[-1]))
    touch(0)
    assert not asked
    touch(64)
    assert asked == ["64"]  # nothing was slow
