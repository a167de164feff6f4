"""The profiler counts calls, adds times up and writes traces."""

import json

import pytest

import flambeau as torch
from flambeau.profiler import ProfilerAction, profile, record_function, schedule


def test_the_table_counts_calls():
    with profile(record_shapes=True) as prof:
        with record_function("stretch"):
            for _ in range(3):
                torch.ones(4, 5) @ torch.ones(5, 2)
    averages = {entry.key: entry for entry in prof.key_averages()}
    assert averages["aten::matmul"].count == 3 and averages["stretch"].count == 1
    assert averages["stretch"].cpu_time_total >= averages["aten::matmul"].cpu_time_total
    text = prof.key_averages(group_by_input_shape=True).table(sort_by="count", row_limit=1)
    assert "aten::matmul" in text and "[[4, 5], [5, 2]]" in text and "stretch" not in text


def test_backward_is_recorded():
    x = torch.ones(3, requires_grad=True)
    with profile() as prof:
        x.exp().sum().backward()
    assert "aten::mul" in {event.name for event in prof.events()}


def test_the_trace_is_json(tmp_path):
    with profile() as prof:
        torch.ones(2) + 1
    prof.export_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in events] == ["aten::add"] and events[0]["ph"] == "X"


def test_the_schedule():
    plan = schedule(wait=1, warmup=1, active=2, repeat=1, skip_first=1)
    none, warm = ProfilerAction.NONE, ProfilerAction.WARMUP
    record, save = ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE
    assert [plan(step) for step in range(7)] == [none, none, warm, record, save, none, none]


def test_cycles_reach_the_handler():
    seen = []
    with profile(schedule=schedule(wait=1, warmup=0, active=1), on_trace_ready=lambda p: seen.append(p.step_num)) as p:
        for _ in range(4):
            torch.ones(1) + 1
            p.step()
    assert len(seen) == 2


def test_the_old_profiler_and_its_end():
    with torch.autograd.profiler.profile() as prof:
        torch.ones(2).exp()
    assert "aten::exp" in prof.key_averages().table(sort_by="self_cpu_time_total")
    torch.ones(2).exp()
    assert len(prof.function_events) == 1


def test_an_unknown_column_is_refused():
    with profile() as prof:
        torch.ones(2).exp()
    with pytest.raises(AttributeError):
        prof.key_averages().table(sort_by="happiness")
