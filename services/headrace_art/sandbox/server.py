"""The stand-in as a server: listeners, the way of a request through a node, faults. Source: reference art 5."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from headrace.errors import ConfigError
from headrace.sandbox.clock import Clock, RunningClock
from headrace.sandbox.control import Command, control_handler
from headrace.sandbox.faults import COMMON_ACTIONS, Fault, FaultPlan
from headrace.sandbox.listening import Listener, Reply, drop, send
from headrace_art.sandbox import entity_endpoints, replies, student_endpoints
from headrace_art.sandbox.calls import Call
from headrace_art.sandbox.node import Node, State
from headrace_art.sandbox.routes import TOKEN_PATH, TOKENINFO_PATH, Found, find
from headrace_art.sandbox.settings import ArtSandboxSettings
from headrace_art.sandbox.world import World

ACTIONS = COMMON_ACTIONS | {"partial_publish", "no_location", "expire_tokens_now", "kill_node", "restore_node"}

_HANDLERS: Mapping[str, Callable[[Call], Awaitable[Reply]]] = {
    name: getattr(student_endpoints, name)
    for name in (
        "batch_post", "batch_delete", "batch_status", "student_post", "student_get", "student_delete", "languages",
        "grades",
    )
} | {"states_lookup": entity_endpoints.states_lookup}  # fmt: skip


class NodesAreFixed(ConfigError):
    """The number of nodes cannot be changed while the stand-in runs; start it again with --nodes."""

    code = "nodes-are-fixed"


class ArtSandbox:
    """ART nodes behind one address, the token provider and the control port, each on a port of its own.

    Parameters:
        clock: what all waits and lifetimes go by.
        port, auth_port, control_port: 0 takes a free one. Nodes listen on their own ports too if `node_ports`.
        tls: serve ART and the provider over TLS.
    """

    def __init__(
        self,
        settings: ArtSandboxSettings | None = None,
        clock: Clock | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        auth_port: int = 0,
        control_port: int = 0,
        node_ports: bool = False,
        tls: ssl.SSLContext | None = None,
        faults: Iterable[Fault] = (),
    ) -> None:
        self.clock: Clock = clock or RunningClock()
        self.world = World(settings or ArtSandboxSettings(), self.clock)
        self.plan = FaultPlan(faults, actions=ACTIONS, seed=self.world.settings.seed)
        self._tls = tls is not None
        counters = self.world.counters
        self.art = Listener("art", self._handler(None), counters, host=host, port=port, tls=tls)
        self.auth = Listener("auth", self._answer_auth, counters, host=host, port=auth_port, tls=tls)
        self.control = Listener("control", control_handler(self), counters, host=host, port=control_port)
        self.node_listeners = [
            Listener(f"node {number}", self._handler(number), counters, host=host, tls=tls)
            for number in range(self.world.settings.nodes if node_ports else 0)
        ]
        self.nodes: list[Node] = []
        self._turn = 0

    @property
    def rest_url(self) -> str:
        """The base of ART's REST API."""
        return f"{self.art.url}/rest"

    @property
    def token_url(self) -> str:
        """Where tokens are had."""
        return f"{self.auth.url}{TOKEN_PATH}?realm=/sbac"

    async def start(self) -> None:
        """Listen. Raises ListenPortTaken."""
        self._make_nodes()
        for listener in (self.art, self.auth, self.control, *self.node_listeners):
            await listener.open()

    async def stop(self) -> None:
        """End everything."""
        for listener in (self.art, self.auth, self.control, *self.node_listeners):
            await listener.close()
        for node in self.nodes:
            await node.stop()

    async def __aenter__(self) -> ArtSandbox:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # What the control port offers.

    def counted(self) -> Mapping[str, Any]:
        """Counters, and how things are now."""
        for node in self.nodes:
            node.account()
        nodes = {
            str(node.number): {"state": node.state.value, "depth": len(node.queue), "down": node.down}
            for node in self.nodes
        }
        return {**self.world.counters.as_tree(), **self.world.summary(), "nodes": nodes}

    def tables(self) -> Mapping[str, Callable[[], Iterable[bytes]]]:
        """Students, entities, links that are missing."""
        entities = self.world.entities
        return {
            "students": self.world.students.lines,
            "unlinked": self.world.students.link_lines,
            "districts": lambda: entities.lines("district"),
            "institutions": lambda: entities.lines("institution"),
            "states": lambda: entities.lines("state"),
        }

    def commands(self) -> Mapping[str, Command]:
        """What an operator, or fate, does to ART."""
        return {
            "broker/restart": self._restart_broker,
            "node/kill": lambda given: self._node(given).kill(),
            "node/restore": lambda given: self._node(given).restore(),
            "tokens/expire": self._expire_tokens,
            "accommodations": self._give_accommodations,
        }

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings; rates take effect at once."""
        new = ArtSandboxSettings.model_validate({**self.world.settings.model_dump(), **changes})
        if new.nodes != self.world.settings.nodes:
            raise NodesAreFixed
        self.world.settings = new
        for node in self.nodes:
            node.poke()

    async def reset(self) -> None:
        """As if just started."""
        for node in self.nodes:
            await node.restart_broker()
            await node.stop()
        self.world.reset()
        self._make_nodes()
        for node in self.nodes:
            await self._node_changed(node)

    # The way of a request.

    def _handler(self, node: int | None) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await self._answer_art(request, node)

        return answer

    async def _answer_art(self, request: web.BaseRequest, at: int | None) -> web.StreamResponse:
        found = find(request.method, request.path)
        endpoint = found.route.endpoint if found else "none"
        node = self.nodes[self._next() if at is None else at]
        fault = self.plan.take(endpoint, node.number, self.world.elapsed)
        if fault is not None:
            self.world.counters.count("faults", fault.action, endpoint)
            if fault.action == "drop_before":
                return drop(request)
        reply = await self._reply(request, found, node, fault)
        self._count(endpoint, request, reply)
        return await send(request, reply, fault, self.clock)

    async def _reply(self, request: web.BaseRequest, found: Found | None, node: Node, fault: Fault | None) -> Reply:
        if fault is not None:
            await self._suffer(fault, node)
            if fault.action == "status" or fault.action == "burst":
                return replies.forced(fault.status, fault.body)
        if not node.reachable:
            return replies.html(502)  # the proxy in front cannot reach it
        body = await request.read()
        limit = self.world.settings.max_body
        if limit is not None and len(body) > limit:
            return replies.html(413)
        async with node.thread():
            factor = self.plan.latency_factor(self.world.elapsed)
            await self.clock.sleep(self.world.settings.latency_ms / 1000 * factor)
            return await self._serve(request, found, node, body, fault)

    async def _serve(
        self, request: web.BaseRequest, found: Found | None, node: Node, body: bytes, fault: Fault | None
    ) -> Reply:
        settings = self.world.settings
        if found is None:
            return replies.html(404)
        route = found.route
        if route.endpoint == "status":
            return replies.answer(self._status(request))
        if route.endpoint == "login":
            return replies.login_page()
        secure = self._tls or request.headers.get("X-Forwarded-Proto") == "https"
        if route.external and settings.https_required and not secure:
            return replies.application_error(403, "HTTPS is required")
        user = node.tokens.check(request.headers.get("Authorization"), self.clock.now())
        if isinstance(user, Reply):
            return user
        missing = [each for each in route.permissions if each not in settings.permissions]
        if missing:
            return replies.application_error(401, f"Access denied: {missing[0]}")
        call = Call(
            self.world, node, self._seen_url(request), found.parts, dict(parse_qsl(request.query_string)), body, user,
            route.kind, fault,
        )  # fmt: skip
        handler = _HANDLERS.get(route.endpoint)
        if handler is None:
            handler = getattr(entity_endpoints, route.endpoint.rpartition("_")[2])
        return await handler(call)

    async def _answer_auth(self, request: web.BaseRequest) -> web.StreamResponse:
        endpoint = {TOKEN_PATH: "token", TOKENINFO_PATH: "tokeninfo"}.get(request.path, "none")
        fault = self.plan.take(endpoint, None, self.world.elapsed)
        if fault is not None:
            self.world.counters.count("faults", fault.action, endpoint)
            if fault.action == "drop_before":
                return drop(request)
            await self._suffer(fault, None)
        await self.clock.sleep(self.world.settings.latency_ms / 1000 * self.plan.latency_factor(self.world.elapsed))
        body = await request.read()
        if fault is not None and fault.action in ("status", "burst"):
            reply = replies.forced(fault.status, fault.body)
        elif endpoint == "token" and request.method == "POST":
            reply = self.world.provider.issue(dict(parse_qsl(body.decode("utf-8", "replace"))))
        elif endpoint == "tokeninfo":
            token = self.world.provider.info(request.query.get("access_token", ""))
            reply = (
                replies.answer({"error": "invalid_request"}, 400)
                if token is None
                else replies.answer({"expires_in": token.expires - self.clock.now(), "uid": token.user})
            )
        else:
            reply = replies.login_page()
        self._count(endpoint, request, reply)
        return await send(request, reply, fault, self.clock)

    async def _suffer(self, fault: Fault, node: Node | None) -> None:
        """What a fault does before the request is served."""
        if fault.action == "delay":
            await self.clock.sleep(fault.seconds)
        elif fault.action == "expire_tokens_now":
            self.world.provider.expire_all()
        elif fault.action == "kill_node" and node is not None:
            await node.kill()
        elif fault.action == "restore_node":
            for each in self.nodes:
                await each.restore()

    async def _node_changed(self, node: Node) -> None:
        """Open or close what leads to a node."""
        if self.node_listeners:
            await self._gate(self.node_listeners[node.number], node.reachable, cut=node.down)
        await self._gate(self.art, any(each.reachable for each in self.nodes), cut=all(n.down for n in self.nodes))

    @staticmethod
    async def _gate(listener: Listener, wanted: bool, *, cut: bool) -> None:
        if wanted:
            await listener.open()
            return
        listener.refuse()
        if cut:
            listener.cut()

    def _make_nodes(self) -> None:
        self.nodes = [Node(number, self.world, self._node_changed) for number in range(self.world.settings.nodes)]
        for node in self.nodes:
            node.start()

    def _next(self) -> int:
        self._turn = (self._turn + 1) % len(self.nodes)
        return self._turn

    def _seen_url(self, request: web.BaseRequest) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{self.world.settings.location_host or request.host}{request.path}"

    def _count(self, endpoint: str, request: web.BaseRequest, reply: Reply) -> None:
        counters = self.world.counters
        counters.count("requests", endpoint, str(reply.status))
        counters.count("bytes", "in", by=request.content_length or 0)
        counters.count("bytes", "out", by=len(reply.body))

    def _status(self, request: web.BaseRequest) -> Mapping[str, Any]:
        blocked = any(node.state in (State.BLOCKED, State.REFUSING) for node in self.nodes)
        return {
            "level": request.query.get("level", "0"),
            "statusText": "Warning" if blocked else "Ideal",
            "providers": {"database": "Ideal", "tokens": "Ideal", "messageBroker": "Warning" if blocked else "Ideal"},
        }

    def _node(self, given: Mapping[str, Any]) -> Node:
        return self.nodes[int(given.get("node", 0))]

    async def _restart_broker(self, given: Mapping[str, Any]) -> Mapping[str, int]:
        wanted = [self._node(given)] if "node" in given else self.nodes
        return {"lost": sum([await node.restart_broker() for node in wanted])}

    async def _expire_tokens(self, _: Mapping[str, Any]) -> None:
        self.world.provider.expire_all()

    async def _give_accommodations(self, given: Mapping[str, Any]) -> None:
        for ssid in given["ssids"]:
            self.world.students.accommodations.add((self.world.settings.state, ssid))
