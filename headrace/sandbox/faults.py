"""The fault plan of a stand-in: which request is to go wrong, and how. Source: reference art 5.4."""

from __future__ import annotations

import fnmatch
import random
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from headrace.config import Section
from headrace.errors import ConfigError

Action = Literal[
    "status", "delay", "drop_before", "drop_after", "truncate_body", "slow_loris", "burst", "brownout",
    "partial_publish", "no_location", "expire_tokens_now", "kill_node", "restore_node",
]  # fmt: skip

COMMON_ACTIONS: frozenset[str] = frozenset(
    {"status", "delay", "drop_before", "drop_after", "truncate_body", "slow_loris", "burst", "brownout"}
)
"""What every stand-in that speaks HTTP can do."""


class UnknownFault(ConfigError):
    """This stand-in has no fault {action}. Valid: {valid}."""

    code = "unknown-fault"


class Fault(Section):
    """One rule: the requests that it matches, and what happens to them. A request takes the first rule that applies."""

    endpoint: str = Field("*", description="Name of the endpoint, with * and ? as in file names.")
    node: int | None = Field(None, description="Only requests to this node, from 0.", ge=0)
    nth: int | None = Field(None, description="Only the n-th request that matches, from 1.", ge=1)
    every: int | None = Field(None, description="Only each n-th request that matches.", ge=1)
    probability: float = Field(1.0, description="Share of the matching requests, drawn under the seed.", ge=0, le=1)
    after: float = Field(0.0, description="Not before this many seconds on the stand-in's clock.", ge=0)
    until: float | None = Field(None, description="Not after this many seconds on the stand-in's clock.")
    times: int | None = Field(None, description="At most this often.", ge=1)
    action: Action = Field(description="What happens.")
    status: int = Field(503, description="For status and burst: the status answered.", ge=100, le=599)
    body: Literal["empty", "html", "envelope", "oauth"] = Field("html", description="For status: the kind of body.")
    seconds: float = Field(1.0, description="For delay and brownout: how long.", ge=0)
    factor: float = Field(20.0, description="For brownout: latency times this.", ge=1)
    count: int = Field(1, description="For burst: requests hit in a row; for partial_publish: students queued.", ge=0)


class FaultPlan:
    """The rules in force, and what they have done so far.

    Parameters:
        actions: what the stand-in can do.
        seed: of the draws.
    """

    def __init__(self, rules: Iterable[Fault] = (), *, actions: frozenset[str] = COMMON_ACTIONS, seed: int = 0) -> None:
        self._actions = actions
        self._seed = seed
        self.install(rules)

    @property
    def rules(self) -> tuple[Fault, ...]:
        """The rules, in the order in which they are tried."""
        return self._rules

    def install(self, rules: Iterable[Fault]) -> None:
        """Replace all rules and forget what the old ones did.

        Raises UnknownFault for an action that the stand-in does not have; then nothing is replaced.
        """
        new = tuple(rules)
        for rule in new:
            if rule.action not in self._actions:
                raise UnknownFault(action=rule.action, valid=", ".join(sorted(self._actions)))
        self._rules = new
        self._random = random.Random(self._seed)  # noqa: S311 - a plan, no secret
        self._matched = [0] * len(new)
        self._applied = [0] * len(new)
        self._burst = [0] * len(new)
        self._brown_until = float("-inf")
        self._brown_factor = 1.0

    def take(self, endpoint: str, node: int | None, elapsed: float) -> Fault | None:
        """The fault that this request suffers, if any.

        Parameters:
            endpoint, node: where the request goes.
            elapsed: seconds on the stand-in's clock since it began.
        """
        hit: Fault | None = None
        for index, rule in enumerate(self._rules):
            if not self._matches(rule, endpoint, node, elapsed):
                continue
            self._matched[index] += 1
            if hit is None and self._applies(index, rule):
                hit = rule
        if hit is not None and hit.action == "brownout":
            self._brown_until, self._brown_factor = elapsed + hit.seconds, hit.factor
        return hit

    def latency_factor(self, elapsed: float) -> float:
        """What latencies are multiplied by now."""
        return self._brown_factor if elapsed < self._brown_until else 1.0

    @staticmethod
    def _matches(rule: Fault, endpoint: str, node: int | None, elapsed: float) -> bool:
        if rule.node is not None and rule.node != node:
            return False
        if elapsed < rule.after or (rule.until is not None and elapsed > rule.until):
            return False
        return fnmatch.fnmatchcase(endpoint, rule.endpoint)

    def _applies(self, index: int, rule: Fault) -> bool:
        if self._burst[index] > 0:
            self._burst[index] -= 1
            return True
        if rule.times is not None and self._applied[index] >= rule.times:
            return False
        if rule.nth is not None and self._matched[index] != rule.nth:
            return False
        if rule.every is not None and self._matched[index] % rule.every:
            return False
        if rule.probability < 1 and self._random.random() >= rule.probability:
            return False
        self._applied[index] += 1
        if rule.action == "burst":
            self._burst[index] = rule.count - 1
        return True
