"""Addresses of ART and its token provider: what cannot work is told of when the settings are read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from headrace_art.client.settings import ArtSettings

OTHERS = {"username": "u", "password": "p", "client_id": "c", "client_secret": "s"}


@pytest.mark.parametrize("name", ["url", "token_url"])
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("https://art:99999/rest", "port"),
        ("https://art:rest", "port"),
        ("https://art..example/rest", "empty part"),
        (f"https://{'a' * 64}/rest", "63 characters"),
        ("https://[::1/rest", "IPv6"),
        ("https:///rest", "pattern"),
        ("art.example/rest", "pattern"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_by_name(name, address, problem):
    with pytest.raises(ValidationError, match=problem) as refused:
        ArtSettings.model_validate({**OTHERS, name: address})
    assert refused.value.errors()[0]["loc"] == (name,)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://art.example/rest/", "https://art.example/rest"),
        ("https://b\u00fccher.example/gr\u00fc\u00dfe", "https://xn--bcher-kva.example/gr%C3%BC%C3%9Fe"),
        ("http://[::1]:8080/rest", "http://[::1]:8080/rest"),
    ],
)
def test_an_address_goes_over_the_wire_as_ascii(written, sent):
    assert ArtSettings.model_validate({**OTHERS, "url": written}).url == sent


def test_a_token_address_without_a_path_keeps_its_query():
    settings = ArtSettings.model_validate({**OTHERS, "token_url": "https://login.example?realm=/sbac"})
    assert settings.token_url == "https://login.example/?realm=/sbac"
