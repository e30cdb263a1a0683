"""Recipes for personal data: what is copied from them is valid, and encrypted on every way."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from headrace.config import Sources
from headrace.families import sections, stage_named, stages

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "load-students.md"


def test_the_settings_of_a_load_are_valid_and_have_tls_https_and_a_host_key(tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    text = found[1].replace("/etc/headrace", str(tmp_path)).replace("SHA256:…", "SHA256:" + "A" * 43)
    for secret in re.findall(rf"{re.escape(str(tmp_path))}/(\w+)\"", text):
        (tmp_path / secret).write_text("a secret")
        (tmp_path / secret).chmod(0o600)
    (tmp_path / "headrace.toml").write_text(text)
    sources = Sources.read(tmp_path / "headrace.toml", [*stages(), *sections()], {})
    kafka = sources.settings().values.kafka
    assert kafka.client_properties()["security.protocol"] == "SASL_SSL"
    art = sources.section("art", sections()["art"].load_settings()).values.model_dump()
    assert art["url"].startswith("https://")
    assert art["token_url"].startswith("https://")
    assert art["tls_check"]
    server = sources.section("sftp_source", stage_named("sftp_source").load_settings()).values.model_dump()
    assert server["fingerprint"]
    assert set(tomllib.loads(text)) == {"sftp_source", "art_load", "art", "kafka"}
