"""The console as a user meets it: over the wire, and in a real browser."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from headrace.broker import EmbeddedBroker, free_port
from headrace.codec import avro
from headrace.deadletters.decisions import read_decisions
from headrace.events import Books, Command, Covers, Job, UploadAck
from headrace.jobs.log import JobWriter
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key
from headrace.topics import CHUNKS, UPLOAD_ACKS
from tests.support.console import CHROMIUM, WHY_NO_BROWSER, Client, ConsoleProcess, browsing, console, log_in
from tests.support.dead import put_aside, sent_back
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason=WHY_NO_BROWSER)

HOSTILE = b"<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script>\x1b[31m\xff.csv"
LONG = b"reports/" + b"a-very-long-name-without-any-blank" * 8
JOB = "nightly-2026-11-25"
PAGES = (
    "/",
    "/jobs",
    f"/jobs/{JOB}",
    "/dead-letters",
    "/files",
    "/files?name=scan",
    "/dead-letters/redrive",
    "/settings",
    "/settings/art",
    "/tasks/students",
)
INLINE = re.compile(r"<script(?![^>]*\bsrc=)|<style|\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|javascript:", re.IGNORECASE)


@pytest.fixture(scope="module")
def cluster(broker: EmbeddedBroker) -> Cluster:
    """Files, receipts, a job and dead letters on topics of this module."""
    cluster = new_cluster(broker.bootstrap, f"t{uuid.uuid4().hex[:8]}.")
    group = cluster.group_name("assembler", "site")
    feeder = Feeder(cluster)
    for name in (b"run/scan-01.tif", b"run/scan-02.tif", LONG, HOSTILE):
        file = FedFile(name, b"x" * 100, source="microscope")
        feeder.send(file, file.whole())
        feeder.announce(file)
        partition = feeder.partition(file)
        ack = UploadAck(
            group=group, item=file.item, file=file.file, partition=partition, first=0, last=0, size=100,
            covers=[Covers(outcome="delivered")], where="file:///srv/" + name.decode("utf-8", "replace"), at=1,
        )  # fmt: skip
        feeder.raw(UPLOAD_ACKS, avro.encode(ack), encode_key((file.path_id.hex(), group, file.item)), partition)
    feeder.flush()
    now = time.time_ns() // 1000
    books = [Books(group=group, expected=4, delivered=3, failed=1)]
    JobWriter(cluster).write(
        Command(job=JOB, kind="watch", desired="run", by="<b>anna</b>", at=now),
        Job(job=JOB, kind="watch", state="running", books=books, reason="<i>1 waits</i>", started=now, updated=now),
    )
    put_aside(cluster, [FedFile(b"dead-%d" % number, b"x") for number in range(5)], group)
    put_aside(cluster, [FedFile(b"often", b"x")], cluster.group_name("archiver", "bucket"), attempt=7)
    commit(cluster, group, 0)
    return cluster


def commit(cluster: Cluster, group: str, position: int) -> None:
    consumer = cluster.consumer(group)
    places = [
        confluent_kafka.TopicPartition(cluster.topic_name(CHUNKS), number, 0, metadata=f"pos={position} rcp=0")
        for number in range(cluster.partitions(CHUNKS))
    ]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()


@pytest.fixture(scope="module")
def running(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleProcess]:
    with console(cluster, tmp_path_factory.mktemp("console")) as process:
        yield process


@pytest.fixture(scope="module")
def client(running: ConsoleProcess) -> Client:
    return Client(running.base)


@pytest.fixture(scope="module")
def session(client: Client, running: ConsoleProcess) -> tuple[str, str]:
    cookie, proof = log_in(client, running.token)
    wait_until(lambda: 'class="banner' not in client.request("GET", "/", Cookie=cookie)[2])
    return cookie, proof


@pytest.mark.parametrize("path", [*PAGES, "/dead-letters/0/0", "/topology/history.json", "/no-such-page"])
def test_nothing_is_shown_without_a_login(client, path):
    status, headers, body = client.request("GET", path)
    assert (status, headers["Location"], body) == (303, "/login", "")
    status, headers, body = client.request("GET", path, HX_Request="true", Cookie="headrace_1=made-up")
    assert (status, headers["HX-Redirect"], body) == (401, "/login", "")
    assert client.request("POST", path, {"proof": "x"})[0] == 403


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000])
def test_a_wrong_token_is_refused_and_gives_no_cookie(client, token):
    status, headers, body = client.request("POST", "/login", {"token": token})
    assert status == 403
    assert headers["Set-Cookie"] is None
    assert "not the token" in body


def test_the_token_is_printed_and_never_logged(running):
    assert len(running.token) >= 40
    assert running.token not in running.log.read_text()


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(client, running):
    _, headers, _ = client.request("POST", "/login", {"token": running.token})
    attributes = {part.strip().lower() for part in headers["Set-Cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes


def test_logging_out_ends_the_session(client, running):
    cookie, proof = log_in(client, running.token)
    assert client.request("POST", "/logout", {"proof": proof}, Cookie=cookie)[0] == 303
    assert client.request("GET", "/", Cookie=cookie)[0] == 303


@pytest.mark.parametrize(
    "path",
    [
        "/dead-letters/dry-run", "/dead-letters/redrive", "/dead-letters/discard", "/files/check", "/logout",
        "/runs/none/stop", "/settings/art", "/tasks/students", "/tasks/students/check", f"/jobs/{JOB}/stop",
        f"/jobs/{JOB}/act",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("proof", "headers"),
    [
        ("", {}),
        ("made-up", {}),
        (None, {"Origin": "http://evil.example"}),
        (None, {"Origin": "null"}),
        (None, {"Origin": ""}),
    ],
)
def test_what_does_not_come_from_a_page_of_ours_changes_nothing(client, session, cluster, path, proof, headers):
    cookie, real = session
    form = {"proof": real if proof is None else proof, "confirmed": "yes", "name": "x"}
    assert client.request("POST", path, form, Cookie=cookie, **headers)[0] == 403
    assert client.request("GET", "/", Cookie=cookie)[0] == 200
    assert not sent_back(cluster)


def test_a_login_from_another_site_is_refused(client, running):
    assert client.request("POST", "/login", {"token": running.token}, Origin="http://evil.example")[0] == 403


def test_a_foreign_name_that_points_here_gets_nothing(client, session):
    assert client.request("GET", "/login", Host="evil.example")[0] == 421
    assert client.request("GET", "/", Cookie=session[0], Host="evil.example:80")[0] == 421


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE"])
def test_other_methods_are_refused(client, session, method):
    assert client.request(method, "/", Cookie=session[0])[0] == 405


def test_a_form_that_is_too_large_is_refused(client, session):
    status, _, _ = client.request("POST", "/files/check", {"name": "x" * 70_000}, Cookie=session[0])
    assert status == 413


@pytest.mark.parametrize("path", [*PAGES, "/login", "/nothing", "/static/console.js", "/static/../settings.py"])
def test_every_answer_has_a_strict_policy_and_no_page_needs_more(client, session, path):
    _, headers, body = client.request("GET", path, Cookie=session[0])
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    if path.startswith("/static"):
        assert "class ConsoleSettings" not in body
    else:
        assert not INLINE.search(body), INLINE.search(body)
        assert headers["Cache-Control"] == "no-store"


def test_values_from_the_log_are_text(client, session):
    cookie, _ = session
    page = client.request("GET", "/files", Cookie=cookie)[2]
    assert "&lt;img src=x onerror=" in page
    assert r"\x1b[31m\xff.csv" in page
    assert "<img" not in page
    page = client.request("GET", f"/jobs/{JOB}", Cookie=cookie)[2]
    assert "&lt;b&gt;anna&lt;/b&gt;" in page
    assert "&lt;i&gt;1 waits&lt;/i&gt;" in page


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/dead-letters?since=yesterdayish", 400, "yesterdayish"),
        ("/dead-letters?id=%3Cb%3E", 400, "&lt;b&gt;"),
        ("/dead-letters/0/99999", 404, "not there"),
        ("/dead-letters/77/0", 404, "no such dead letter"),
        ("/files/xyz", 404, "32 hexadecimal digits"),
        (f"/files/{'0' * 32}", 404, "not among those"),
        ("/jobs/none", 404, "No such job"),
        ("/none", 404, "no such page"),
    ],
)
def test_what_cannot_be_shown_is_said_in_words(client, session, path, status, words):
    found, _, body = client.request("GET", path, Cookie=session[0])
    assert (found, words in body) == (status, True)


def test_a_dead_letter_is_shown_with_what_may_be_personal_masked(client, session, cluster):
    cookie, _ = session
    page = client.request("GET", "/dead-letters?service=archiver", Cookie=cookie)[2]
    (address,) = re.findall(r'href="(/dead-letters/\d+/\d+)"', page)
    page = client.request("GET", address, Cookie=cookie)[2]
    assert "The test refuses it." in page
    assert "(masked, 5 bytes)" in page
    assert "quarantined" in page


def test_filters_choose_what_headrace_dlq_would(client, session):
    cookie, _ = session
    for query, count in (("", 6), ("service=assembler", 5), ("service=archiver.bucket", 1), ("reason=other", 0),
                         ("since=1h", 6), ("until=1h", 0)):  # fmt: skip
        page = client.request("GET", f"/dead-letters?{query}", Cookie=cookie)[2]
        assert len(set(re.findall(r"/dead-letters/\d+/\d+", page))) == count, query


def test_the_page_of_a_file_and_a_verification_from_the_log_agree(client, session):
    cookie, proof = session
    page = client.request("GET", "/files?name=SCAN-01", Cookie=cookie)[2]
    (address,) = re.findall(r'href="(/files/[0-9a-f]{32})"', page)
    page = client.request("GET", address, Cookie=cookie)[2]
    for words in ("Source microscope", "assembler.site", "file:///srv/run/scan-01.tif"):
        assert words in page
    for name in (address.rpartition("/")[2], "scan-01.tif"):
        checked = client.request("POST", "/files/check", {"proof": proof, "name": name}, Cookie=cookie)[2]
        assert "From the log, just now" in checked
        assert "file:///srv/run/scan-01.tif" in checked
        assert "scan-02" not in checked
    checked = client.request("POST", "/files/check", {"proof": proof, "name": "none"}, Cookie=cookie)[2]
    assert "No file on the log" in checked


@pytest.fixture
def page(running: ConsoleProcess, session: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A browser's page, logged in by the printed address. It fails on any error that scripts or the policy make."""
    options = getattr(request, "param", {"viewport": {"width": 1200, "height": 900}})
    with browsing(tmp_path / "profile", **options) as page:
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
        page.on("dialog", lambda dialog: problems.append(dialog.message))
        page.goto(running.login)
        page.wait_for_url(f"{running.base}/")
        yield page
        assert not problems


@in_a_browser
def test_the_printed_address_logs_in_and_the_token_does_not_stay_in_it(page, running):
    assert page.locator("h1").inner_text() == "Topology"
    assert running.token not in page.evaluate("location.href")
    page.go_back()
    assert running.token not in page.evaluate("location.href")


@in_a_browser
def test_a_hostile_file_name_is_text_in_a_browser(page, running):
    page.goto(f"{running.base}/files")
    assert page.locator("td a", has_text="onerror").count() == 1
    page.locator("td a", has_text="onerror").click()
    page.wait_for_load_state("networkidle")
    assert page.locator("h1").inner_text().endswith(r"\x1b[31m\xff.csv")
    assert page.locator("main img, main script").count() == 0
    assert not page.title().startswith("pwned")


@in_a_browser
def test_lag_and_rate_renew_themselves_and_the_chart_is_drawn(page, running, cluster):
    group = cluster.group_name("assembler", "site")
    row = page.get_by_role("row").filter(has_text="assembler.site")
    before = row.inner_text()
    commit(cluster, group, 1)
    wait_until(lambda: row.inner_text() != before, within=15)
    assert "lag" in (page.locator("figure svg").text_content() or "")
    wait_until(lambda: page.locator(".chart canvas").count() == 2)
    assert "assembler.site" in page.locator(".legend").inner_text()


SECRET = "xyzzy-a-secret-that-no-page-shows"


@in_a_browser
@pytest.mark.parametrize(
    "page", [{}, {"viewport": {"width": 400, "height": 800}, "color_scheme": "dark"}], indirect=True
)
def test_settings_are_shown_without_secrets_and_connections_are_tested_by_a_button(cluster, page, tmp_path):
    closed = free_port()
    password = tmp_path / "password"
    password.write_text(SECRET)
    password.chmod(0o600)
    environment = {
        "HEADRACE_SFTP_SOURCE__HOST": "127.0.0.1", "HEADRACE_SFTP_SOURCE__PORT": str(closed),
        "HEADRACE_SFTP_SOURCE__USER": "loader", "HEADRACE_SFTP_SOURCE__PASSWORD_FILE": str(password),
        "HEADRACE_SFTP_SOURCE__PATHS": '["<b>x</b>"]',
    }  # fmt: skip
    with console(cluster, tmp_path, **environment) as process:
        page.goto(process.login)
        page.get_by_role("button", name="Log in").click() if page.url.endswith("/login") else None
        page.wait_for_url(f"{process.base}/")
        page.goto(f"{process.base}/settings")
        table = page.get_by_role("table", name="sftp_source")
        assert table.get_by_role("row").filter(has_text="user").first.get_by_text("loader").count() == 1
        assert "<b>x</b>" in table.inner_text()
        page.get_by_role("button", name="Test the connections").press("Enter")
        page.wait_for_url("**/settings/check")
        rows = page.get_by_role("table", name="Connections").get_by_role("row")
        assert "well" in rows.filter(has_text="answers").first.inner_text()
        assert rows.filter(has_text="sftp_source").filter(has_text="failed").count() >= 1
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        assert SECRET not in page.content()
        assert SECRET not in process.log.read_text()
        page.screenshot(path=tmp_path / "settings.png", full_page=True)


TOML = """\
# Ours.
[sftp_source]
host = "old.example"      # until spring
user = "loader"
password = "{secret}"
"""


def test_a_setting_is_edited_in_the_file_with_its_comments_and_what_is_wrong_is_said_at_its_field(cluster, tmp_path):
    file = tmp_path / "headrace.toml"
    file.touch(0o600)
    file.write_text(TOML.format(secret=SECRET))
    with console(cluster, tmp_path, HEADRACE_SFTP_SOURCE__TRIES="3") as process:
        client = Client(process.base)
        cookie, proof = log_in(client, process.token)
        page = client.request("GET", "/settings/sftp_source", Cookie=cookie)[2]
        mark = re.findall(r'name="mark" value="([^"]+)"', page)[0]
        assert "environment HEADRACE_SFTP_SOURCE__TRIES" in page
        form = {"proof": proof, "mark": mark, "set.host": "new.example", "set.user": "loader"}
        status, _, wrong = client.request("POST", "/settings/sftp_source", form | {"set.port": "no"}, Cookie=cookie)
        assert (status, file.read_text()) == (400, TOML.format(secret=SECRET))
        assert re.search(r'id="set.port"[^>]*value="no"[^>]*aria-invalid="true"', wrong)
        assert 'id="set.port-wrong"' in wrong
        sneaky = {"set.password": "mine", "set.password_file": "/etc/shadow", "set.tries": "99"}
        saved = client.request("POST", "/settings/sftp_source", form | sneaky, Cookie=cookie)
        assert (saved[0], saved[1]["Location"]) == (303, "/settings/sftp_source?saved")
        assert file.read_text() == TOML.format(secret=SECRET).replace("old.example", "new.example")
        late = client.request("POST", "/settings/sftp_source", form | {"set.host": "late.example"}, Cookie=cookie)
        assert (late[0], "has changed" in late[2]) == (400, True)
        assert "new.example" in client.request("GET", "/settings", Cookie=cookie)[2]
        pages = [
            page,
            wrong,
            late[2],
            *(client.request("GET", path, Cookie=cookie)[2] for path in ("/settings", "/settings/console")),
        ]
        assert not any(SECRET in each or process.token in each for each in pages)
        assert client.request("GET", "/settings/none", Cookie=cookie)[0] == 400


def test_testing_the_connections_needs_a_proof_of_our_own_page(client, session):
    cookie, proof = session
    assert client.request("POST", "/settings/check", {"proof": "x"}, Cookie=cookie)[0] == 403
    other = "https://elsewhere.example"
    assert client.request("POST", "/settings/check", {"proof": proof}, Cookie=cookie, Origin=other)[0] == 403
    assert client.request("POST", "/settings/check", {"proof": proof}, Cookie=cookie)[0] == 200


NARROW = {"viewport": {"width": 400, "height": 800}, "color_scheme": "dark"}


@in_a_browser
@pytest.mark.parametrize("page", [NARROW], indirect=True)
def test_no_page_scrolls_sideways_at_400_pixels_and_dark_is_dark(page, running):
    for path in (*PAGES, "/dead-letters/0/0"):
        page.goto(f"{running.base}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") == 400, path
    page.goto(f"{running.base}/files?name=reports")
    page.locator("td a").click()
    page.wait_for_load_state()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(17, 24, 31)"


REACHABLE = "a[href], button, summary, textarea, input:not([type=hidden]), select, [tabindex='0']"


def walk(page: Any) -> int:
    """Press Tab until it comes round; how many different elements had the focus, each visibly."""
    page.evaluate("document.querySelectorAll('[data-seen]').forEach((one) => one.removeAttribute('data-seen'))")
    for _ in range(300):
        page.keyboard.press("Tab")
        fresh = page.evaluate(
            """() => {
              const one = document.activeElement;
              // The parts of a date are fields of their own to Tab, but not to us.
              const again = one === window.before;
              window.before = one;
              if (again) return true;
              if (one === document.body || one.dataset.seen) return false;
              one.dataset.seen = "1";
              return getComputedStyle(one).outlineStyle !== "none" || "no outline";
            }"""
        )
        assert fresh != "no outline"
        if not fresh:
            break
    return int(page.evaluate("document.querySelectorAll('[data-seen]').length"))


@in_a_browser
def test_the_keyboard_reaches_everything_and_every_field_has_a_label(page, running):
    for path in (*PAGES, "/dead-letters/0/0"):
        page.goto(f"{running.base}{path}")
        # What renews itself must not take the focus away.
        assert walk(page) == page.locator(REACHABLE).filter(visible=True).count(), path
        for field in page.locator("main input:not([type=hidden]), main select, main textarea").all():
            assert field.evaluate("(field) => field.labels.length") == 1, path
        assert page.locator("h1").count() == 1, path
        for table in page.get_by_role("table").all():
            assert table.locator("caption").count() == 1, path
            assert table.get_by_role("columnheader").count() > 1, path


@in_a_browser
def test_dead_letters_are_redriven_from_the_page_by_keyboard_after_a_look_at_what_would_happen(page, running, cluster):
    page.goto(f"{running.base}/dead-letters?service=assembler")
    page.get_by_role("button", name="Re-drive these").press("Enter")
    page.wait_for_url("**/dead-letters/dry-run")
    assert page.get_by_role("row").filter(has_text="redrive").locator("td").first.inner_text() == "5"
    assert not sent_back(cluster)
    button = page.get_by_role("button", name="Re-drive 5")
    button.press("Enter")
    assert page.url.endswith("dry-run"), "nothing goes without the tick"
    page.get_by_role("checkbox").press("Space")
    button.press("Enter")
    page.wait_for_url("**/dead-letters/redrive")
    page.get_by_text("5 re-driven").wait_for()
    back = sent_back(cluster)
    assert (len(back), set(back.values())) == (5, {1})
    page.goto(f"{running.base}/dead-letters")
    wait_until(lambda: page.reload() and page.get_by_text("1 open").count(), within=15)


@in_a_browser
def test_what_died_too_often_goes_when_it_is_forced_and_what_is_discarded_is_closed_with_its_reason(
    page, running, cluster
):
    """After the redrive above, one is left: it died seven times."""
    before = sent_back(cluster)
    put_aside(cluster, [FedFile(b"vain-%d" % number, b"x") for number in range(3)], cluster.group_name("vain", "x"))

    def choose(service: str, number: int) -> None:
        def shown() -> bool:
            page.goto(f"{running.base}/dead-letters?service={service}")
            return bool(page.get_by_text(f"{number} open").count())

        wait_until(shown, within=15)

    choose("archiver", 1)
    page.get_by_role("button", name="Re-drive these").press("Enter")
    page.get_by_text("1 quarantined").wait_for()
    assert page.get_by_role("checkbox").count() == 0
    page.get_by_role("button", name="With the 1 that would stay").press("Enter")
    page.get_by_text("1 of them have died too often").wait_for()
    page.get_by_role("checkbox").press("Space")
    page.get_by_role("button", name="Re-drive 1").press("Enter")
    page.get_by_text("1 re-driven").wait_for()
    assert sent_back(cluster).total() == before.total() + 1

    page.goto(f"{running.base}/dead-letters")
    assert page.get_by_role("button", name="Discard these").count() == 0, "not without having chosen"
    choose("vain", 3)
    page.get_by_role("button", name="Discard these").press("Enter")
    assert page.get_by_role("row").filter(has_text="vain").locator("td").first.inner_text() == "3"
    button = page.get_by_role("button", name="Discard 3")
    button.press("Enter")
    assert page.url.endswith("/discard"), "nothing goes without the tick"
    page.get_by_label("Why").fill("sent <b>twice</b>")
    page.get_by_role("checkbox").press("Space")
    button.press("Enter")
    page.get_by_text("3 discarded").wait_for()
    discarded = [each for each in read_decisions(cluster) if each.verdict == "discarded"]
    assert [(each.group, each.because) for each in discarded] == [
        (f"{cluster.settings.prefix}vain.x", "sent <b>twice</b>")
    ] * 3
    assert sent_back(cluster).total() == before.total() + 1


def test_discarding_needs_filters_as_on_the_command_line(client, session, cluster):
    cookie, proof = session
    status, _, body = client.request(
        "POST", "/dead-letters/discard", {"proof": proof, "confirmed": "yes"}, Cookie=cookie
    )
    assert (status, "No dead letters are named" in body) == (400, True)


@in_a_browser
def test_a_console_started_later_does_not_show_what_was_decided(cluster, page, tmp_path):
    with console(cluster, tmp_path) as second:
        cookie, _ = log_in(Client(second.base), second.token)
        wait_until(
            lambda: "No dead letter is open" in Client(second.base).request("GET", "/dead-letters", Cookie=cookie)[2]
        )
        assert second.close() == 0


def test_pages_answer_and_say_so_while_kafka_is_away(own_broker, prefix, tmp_path):
    cluster = new_cluster(own_broker.bootstrap, prefix)
    with console(cluster, tmp_path) as process:
        client = Client(process.base)
        cookie, _ = log_in(client, process.token)
        wait_until(lambda: 'class="banner' not in client.request("GET", "/", Cookie=cookie)[2])
        own_broker.kill()
        wait_until(lambda: "Kafka: " in client.request("GET", "/", Cookie=cookie)[2], within=30)
        began = time.monotonic()
        for path in PAGES:
            assert client.request("GET", path, Cookie=cookie)[0] in (200, 404)
        assert time.monotonic() - began < 2
        own_broker.start()
        wait_until(lambda: 'class="banner' not in client.request("GET", "/", Cookie=cookie)[2], within=60)
        assert process.close() == 0
