"""What the report of an operation says to people."""

from deploys.conductor.report import summary

GREEN = [{"gate": "available", "seen": "true", "ok": True}]
RED = [{"gate": "data healthy", "seen": "false", "ok": False}]


def step(name: str, at: float, seconds: float, **more) -> dict:
    return {"name": name, "at_seconds": at, "seconds": seconds, "outcome": "done", **more}


def said(*steps: dict, outcome: str = "done", **more) -> list[str]:
    found = {"operation": "fdb upgrade 7.3.78", "outcome": outcome, "seconds": 60.0, "steps": list(steps), **more}
    return [line.strip() for line in summary(found)[1 + len(steps) :]]


BOUNCE = step("bounce", 10.0, 2.0, serving_again_seconds=1.42)


def test_serving_again_is_told_apart_from_all_gates_green():
    gate = step("gate: healthy", 20.0, 26.0, gates=GREEN)
    assert said(BOUNCE, gate, gates=GREEN, gates_at_seconds=47.0) == [
        "serving again after 1.4 s",
        "all gates green 36.0 s after the restart began",
    ]


def test_gates_that_were_green_at_the_last_look_needed_no_step():
    workers = step("store workers", 20.0, 40.0)
    assert said(BOUNCE, workers, gates=GREEN, gates_at_seconds=61.0)[1] == (
        "all gates green 51.0 s after the restart began"
    )


def test_of_several_restarts_the_longest_counts():
    zones = [step(f"zone {n}", 10.0 * n, 2.0, serving_again_seconds=n / 2) for n in (1, 2, 3)]
    gate = step("gate: healthy", 40.0, 30.0, gates=GREEN)
    assert said(*zones, gate, gates=GREEN, gates_at_seconds=71.0) == [
        "serving again after 1.5 s, the longest of 3 times",
        "all gates green 60.0 s after the first restart began",
    ]


def test_gates_that_are_not_green_are_not_called_so():
    gate = step("gate: healthy", 20.0, 240.0, gates=RED)
    assert said(BOUNCE, gate, outcome="failed", gates=RED, gates_at_seconds=19.0) == ["serving again after 1.4 s"]


def test_an_operation_that_restarts_nothing_says_nothing_of_it():
    assert said(step("stage", 0.0, 2.0), gates=GREEN, gates_at_seconds=2.0) == []
