"""The files of the containers fit the code: valid settings, charts of metrics that exist, services that are there."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from headrace.config import Settings, Sources
from headrace.families import sections, stage_named, stages
from headrace.observe.metrics import LOOP_METRICS, PREFIX

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"


def own_sections() -> list[str]:
    tables = tomllib.loads((COMPOSE / "headrace.toml").read_text("utf-8"))
    return [name for name in tables if name not in Settings.model_fields and name not in sections()]


@pytest.mark.parametrize("name", own_sections())
def test_the_settings_of_each_container_are_valid_and_tell_where_health_is_served(name, tmp_path):
    text = (COMPOSE / "headrace.toml").read_text("utf-8").replace("/run/secrets", str(tmp_path))
    for secret in re.findall(rf"{re.escape(str(tmp_path))}/(\w+)", text):
        path = tmp_path / secret
        path.write_text("a secret of some length")
        path.chmod(0o600)
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    sources = Sources.read(file, [*stages(), *sections()], {})
    found = sources.section(name, stage_named(name).load_settings()).values
    assert (found.metrics_port, found.metrics_host) == (9464, "0.0.0.0")


def test_every_service_that_compose_runs_has_its_section():
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    # One of several of a service may have a name after a dot.
    run = re.findall(r"command: \[run, (\w+)(?:\.\w+)?\]", text)
    assert sorted(run) == sorted(own_sections())


def test_prometheus_asks_every_service_that_compose_runs():
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    services = re.findall(
        r"^  ([a-z0-9-]+):\n    <<: \*service\n(?:    profiles: .*\n)?    command: \[run,", text, re.MULTILINE
    )
    asked = re.search(r"names:\n((?: +- [a-z-]+\n)+)", (COMPOSE / "prometheus.yml").read_text("utf-8"))
    assert asked is not None
    assert sorted(asked[1].replace("- ", "").split()) == sorted(services)


def test_every_chart_shows_metrics_that_exist():
    known = {PREFIX + entry.name for entry in LOOP_METRICS}
    known |= {PREFIX + entry.name for stage in stages().values() for entry in stage.load_metrics()}
    dashboard = json.loads((COMPOSE / "grafana" / "dashboards" / "headrace.json").read_text("utf-8"))
    shown = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"headrace_\w+", target["expr"])
    }
    assert shown
    assert shown <= known
