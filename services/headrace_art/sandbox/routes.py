"""Which endpoint a request is for. Source: reference art 3.3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from headrace_art.sandbox.settings import Permission


@dataclass(frozen=True)
class Route:
    """An endpoint: its name in fault plans and counters, what it needs, and how it is reached."""

    endpoint: str
    method: str
    pattern: re.Pattern[str]
    permissions: tuple[Permission, ...] = ()
    authenticated: bool = True
    external: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Found:
    """A route with the parts of the path."""

    route: Route
    parts: Mapping[str, str]


def _route(endpoint: str, method: str, path: str, *permissions: Permission, kind: str = "") -> Route:
    pattern = re.compile("/rest" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
    return Route(endpoint, method, pattern, permissions, external=path.startswith("/external/"), kind=kind)


def _open(endpoint: str, path: str) -> Route:
    return Route(endpoint, "GET", re.compile(path), authenticated=False)


_VERBS: tuple[tuple[str, str, str, Permission], ...] = (
    ("search", "GET", "", "Entity Read"),
    ("post", "POST", "", "Entity Modify"),
    ("get", "GET", "/{id}", "Entity Read"),
    ("put", "PUT", "/{id}", "Entity Modify"),
    ("delete", "DELETE", "/{id}", "Entity Modify"),
)

ROUTES: tuple[Route, ...] = (
    _route("batch_post", "POST", "/external/student/{state}/batch", "Student Modify", "Student Upload"),
    _route("batch_delete", "DELETE", "/external/student/{state}/batch", "Student Modify"),
    _route("batch_status", "GET", "/external/student/batch/{id}", "Student Read"),
    _route("student_post", "POST", "/external/student/{state}", "Student Modify"),
    _route("student_get", "GET", "/external/student/{state}/{ssid}", "Student Read"),
    _route("student_delete", "DELETE", "/external/student/{state}/{ssid}", "Student Modify"),
    *(
        _route(f"{kind}_{verb}", method, f"/{kind}{path}", permission, kind=kind)
        for kind in ("district", "institution", "state")
        for verb, method, path, permission in _VERBS
    ),
    _route("states_lookup", "GET", "/states/lookup", "Entity Read"),
    _route("languages", "GET", "/student/languages"),
    _route("grades", "GET", "/student/gradeLevel"),
    _open("status", "/rest/status"),
    _open("login", "/auth/UI/Login"),
)

TOKEN_PATH = "/auth/oauth2/access_token"  # noqa: S105 - a path
TOKENINFO_PATH = "/auth/oauth2/tokeninfo"

ENDPOINTS: tuple[str, ...] = (*(route.endpoint for route in ROUTES), "token", "tokeninfo")


def find(method: str, path: str) -> Found | None:
    """The endpoint of a request, if there is one."""
    for route in ROUTES:
        if route.method == method and (match := route.pattern.fullmatch(path)):
            return Found(route, match.groupdict())
    return None
