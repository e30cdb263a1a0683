# Every target sets up what it needs, from nothing if it must. The work is in deploy/setup/.

.PHONY: demo test check chaos bench setup partners lock wheel clean
.DEFAULT_GOAL := check

BIN := .venv/bin

demo: setup               ## See the main job on this machine.
	$(BIN)/headrace demo

test: check partners      ## Everything that the README promises; at most 30 minutes on two cores.
	deploy/setup/test.sh

check: setup              ## Seconds: style, types, import rules, unit tests.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit

chaos: setup              ## Long: every fault, many times; prints its seeds.
	$(BIN)/pytest tests/chaos

bench: setup              ## Long: every figure that the documentation states.
	deploy/setup/bench.sh

setup:
	@deploy/setup/setup.sh

partners:
	@deploy/setup/partners.sh

lock: setup               ## Write the lock files anew; UPGRADE=1 takes newer versions.
	deploy/setup/lock.sh

wheel: setup              ## One wheel with all families and schemas, in dist/.
	$(BIN)/hatchling build -t wheel

clean:                    ## Remove what was generated here; the virtual environment and the user's cache stay.
	rm -rf dist build demo .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
