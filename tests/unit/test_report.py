"""What the report of an operation says to people."""

from deploys.report import summary

GREEN = [{"gate": "available", "seen": "true", "ok": True}]


def step(name: str, at: float, seconds: float, **more) -> dict:
    return {"name": name, "at_seconds": at, "seconds": seconds, "outcome": "done", **more}


def said(*steps: dict) -> list[str]:
    document = {"operation": "fdb upgrade 7.3.78", "outcome": "done", "seconds": 60.0, "steps": list(steps)}
    return [line.strip() for line in summary(document)[1 + len(steps) :]]


def test_serving_again_is_told_apart_from_all_gates_green():
    bounce = step("bounce", 10.0, 2.0, serving_again_seconds=1.42)
    assert said(bounce, step("gate: healthy", 20.0, 26.0, gates=GREEN)) == [
        "serving again after 1.4 s",
        "all gates green 36.0 s after the restart began",
    ]


def test_of_several_restarts_the_longest_counts():
    zones = [step(f"zone {n}", 10.0 * n, 2.0, serving_again_seconds=n / 2) for n in (1, 2, 3)]
    assert said(*zones, step("gate: healthy", 40.0, 30.0, gates=GREEN)) == [
        "serving again after 1.5 s, the longest of 3 times",
        "all gates green 60.0 s after the first restart began",
    ]


def test_gates_that_are_not_green_are_not_called_so():
    red = [{"gate": "data healthy", "seen": "false", "ok": False}]
    bounce = step("bounce", 10.0, 2.0, serving_again_seconds=1.0)
    assert said(bounce, step("gate: healthy", 20.0, 240.0, gates=red)) == ["serving again after 1.0 s"]
    assert said(bounce) == ["serving again after 1.0 s"]


def test_an_operation_that_restarts_nothing_says_nothing_of_it():
    assert said(step("stage", 0.0, 2.0)) == []
