"""Items that were given up are remembered as long as it matters, not for ever."""

from __future__ import annotations

from headrace.stage.forgotten import Forgotten


def test_what_was_given_up_last_is_remembered_and_of_what_came_before_only_so_much() -> None:
    forgotten = Forgotten(most=10)
    for round_ in range(100):
        forgotten.add([(0, f"{round_}/{number}") for number in range(4)])
    assert len(forgotten) == 10
    assert (0, "99/0") in forgotten
    assert (0, "98/0") in forgotten
    assert (0, "3/0") not in forgotten
    many = [(1, str(number)) for number in range(50)]
    forgotten.add(many)
    assert all(name in forgotten for name in many)
    assert len(forgotten) == 50
    forgotten.add([(2, "one")])
    assert len(forgotten) == 10


def test_what_is_begun_again_is_remembered_no_longer() -> None:
    forgotten = Forgotten()
    forgotten.add([(0, "a"), (0, "b")])
    forgotten.discard((0, "a"))
    assert (0, "a") not in forgotten
    assert (0, "b") in forgotten
