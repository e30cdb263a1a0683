"""How far a job's stages are, from what they say of their items."""

from __future__ import annotations

from headrace.events import Books, Progress
from headrace.jobs.progress import Speed, StageProgress, stages


def said(stage: str, item: str, dataset: str, **figures: int) -> Progress:
    return Progress(
        job="night", group=f"headrace.{stage}.art", stage=stage, item=item, dataset=dataset, figures=figures, at=0
    )


def test_a_stage_is_as_far_as_its_partitions_together_and_the_fan_out_says_how_many_rows_there_are() -> None:
    found = {
        (each.stage, each.dataset): each
        for each in stages(
            [
                said("csv_fanout", "a", "schools", bytes=9, bytes_total=9, rows=3, rows_total=3),
                said("csv_fanout", "b", "students", bytes=90, bytes_total=90, rows=60, rows_total=100),
                said("students", "b/0", "students", rows=20, batches=1, backlog=7),
                said("students", "b/1", "students", rows=25, batches=2, backlog=0),
            ]
        )
    }
    students = found["students", "students"]
    assert students.figures == {"rows": 45, "batches": 3, "backlog": 7, "rows_total": 100}
    assert (found["csv_fanout", "schools"].done, found["csv_fanout", "students"].done) == (3, 60)


def test_when_the_books_know_how_many_rows_there_are_that_counts() -> None:
    heard = [
        said("csv_fanout", "b", "students", bytes=90, bytes_total=90, rows=100, rows_total=100),
        said("students", "b/0", "students", rows=20),
    ]
    (_, students) = stages(heard, [Books(group="headrace.students.art", expected=97)])
    assert students.total == 97


def test_a_file_that_is_still_coming_is_measured_in_bytes_and_schools_in_entities() -> None:
    fan_out, entities = stages(
        [
            said("csv_fanout", "a", "schools", bytes=3, bytes_total=9, rows=0),
            said("entities", "a/0", "schools", rows=3, entities=1, entities_total=4),
        ]
    )
    assert (fan_out.measure, fan_out.done, fan_out.total) == ("bytes", 3, 9)
    assert (entities.measure, entities.done, entities.total) == ("entities", 1, 4)


def test_the_time_left_follows_from_the_last_half_minute_and_starts_anew_when_work_is_repeated() -> None:
    speed = Speed()

    def left(done: int, now: float) -> float | None:
        stage = StageProgress("students", "g", {"rows": done, "rows_total": 1000})
        return speed.timed(stage, now).seconds_left

    assert left(0, 0.0) is None
    assert left(100, 10.0) == 90.0
    assert left(300, 40.0) == 105.0
    assert left(50, 41.0) is None
    assert left(1000, 42.0) == 0.0
