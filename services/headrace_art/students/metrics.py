"""What only the students stage measures."""

from __future__ import annotations

from headrace.observe.metrics import MetricEntry

METRICS = (
    MetricEntry("students_total", "counter", "Lines of students' files.", ("outcome",)),
    MetricEntry("students_unknown_grades_total", "counter", "Students whose grade became UG since nobody knows it."),
    MetricEntry("students_backlog", "gauge", "Students that ART has taken and not processed yet, as far as is known."),
    MetricEntry("students_in_hand", "gauge", "Students that are read and not settled."),
)
