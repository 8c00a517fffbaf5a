"""The page of a verify report: what it says, and that nothing a host says becomes more than text."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib
import re
import shlex
from datetime import date
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batten.cli import Parser
from batten.report.html import HERE, html
from batten.report.page import page
from batten.report.remedies import REMEDIES, remedy
from batten.verify import waivers
from batten.verify.catalogue import FAMILIES, catalogue
from batten.verify.hosts import Expiry, HostReport, ImageInUse, Usage
from batten.verify.model import Control, Report, Status
from tests import report_sample

NOWHERE = {"host": "web9", "what": "the host cannot be reached", "fix": "ansible web9 -m ping"}
VOID = {"meta", "link", "br"}


class Document(HTMLParser):
    """The tags and the text of a page; fails where tags do not close in order, as a browser would guess."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def control(status: Status = "pass", **changes: str | None) -> Control:
    made = Control("limits.memory", "The limit", "web1", "shop", "api", status, f"why {status}", "5.11")
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def sample() -> str:
    return html(report_sample.report(), inventory="inventories/selfhosted", version="0.1.0")


def test_it_says_who_fails_and_what_to_do(sample: str) -> None:
    words = Document(sample).words
    assert "6 of " in words
    assert "0.0.0.0:3000 is published and not planned" in words
    assert "batten up -i inventories/selfhosted" in words
    assert "batten backup -i inventories/selfhosted" in words


def test_every_family_and_service_has_its_place(sample: str) -> None:
    words = Document(sample).words
    assert [family for family in FAMILIES if family not in words] == []
    plans = report_sample.stacks()
    assert [name for plan in plans.values() for name in plan.services if name not in words] == []
    (host,) = page(report_sample.report()).hosts
    assert all(len(row.cells) == len(host.families) for group in host.groups for row in group.rows)


def test_it_says_what_is_used_ends_runs_and_drifted(sample: str) -> None:
    words = Document(sample).words
    for said in (
        "near its limit",
        "certificate server.crt app",
        "stripe_api_key",
        "engine 26.1.5+dfsg1",
        "kernel 6.12.48+deb13-amd64",
        "2 differences: api memory, grafana ports",
        "back to the plan",
        "Loki's compactor writes beside its data until 3.8.",
        "expired: it does not count",
        "grafana/loki:3.7.6",
        "built on this host",
        "are not the official images",
    ):
        assert said in words


def test_nothing_is_asked_for_from_anywhere(sample: str) -> None:
    document = Document(sample)
    assert set(document.tags).isdisjoint(
        {"script", "img", "iframe", "object", "embed", "form", "base", "video", "audio"}
    )
    links = {value for name, value in document.attributes if name in ("href", "src", "srcset", "xlink:href", "action")}
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert "url(" not in sample
    assert "@import" not in sample
    assert not [name for name, _ in document.attributes if name.startswith("on") or name == "style"]


def test_its_policy_allows_its_own_style_and_nothing_else(sample: str) -> None:
    (policy,) = (value for _, value in Document(sample).attributes if "default-src" in value)
    style = re.search(r"<style>(.*?)</style>", sample, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        f"style-src 'sha256-{digest}'",
    ]


def test_ids_are_unique_and_every_reference_is_met() -> None:
    document = Document(html(dataclasses.replace(report_sample.report(3), errors=(NOWHERE,))))
    assert len(document.ids) == len(set(document.ids))
    used = {value.removeprefix("#") for name, value in document.attributes if name == "href" and value.startswith("#")}
    named = {value for name, value in document.attributes if name == "aria-labelledby"}
    assert (used | named) - set(document.ids) == set()


def test_an_empty_report_is_a_page() -> None:
    assert "Nothing was judged" in Document(html(Report(()))).words


@pytest.mark.parametrize(
    ("statuses", "errors", "verdict"),
    [
        (["pass", "pass", "not_applicable"], (), "All 2 controls hold"),
        (["pass", "waived"], (), "1 control holds"),
        (["waived"], (), "Every failure is waived"),
        (["pass", "fail"], (), "1 of 2 controls fails"),
        (["fail", "fail", "pass"], (), "2 of 3 controls fail"),
        (["pass"], (NOWHERE,), "1 host could not be judged"),
        ([], (NOWHERE,), "1 host could not be judged"),
    ],
)
def test_verdicts(statuses: list[Status], errors: tuple[dict[str, str], ...], verdict: str) -> None:
    made = Report(tuple(map(control, statuses)), errors)
    assert page(made).verdict == verdict
    assert verdict in Document(html(made)).words


def test_many_hosts_are_listed_first_and_those_not_judged_before_all() -> None:
    made = page(dataclasses.replace(report_sample.report(20), errors=(NOWHERE,)))
    assert [host.name for host in made.hosts][:3] == ["web9", "web1", "web10"]
    assert made.scope == "20 hosts, 40 stacks, 340 services"
    words = Document(html(report_sample.report(20))).words
    assert words.index("web20") < words.index("What fails, and what to do") < words.index("Posture")
    assert "web1: app/api" in words


def test_failures_stand_together_by_what_is_to_be_done() -> None:
    made = Report((control("fail"), control("fail", service="db"), control("fail", id="backups.age")))
    found = page(made, "inv").remedies
    assert [[failure.id for failure in one.failures] for one in found] == [["limits.memory"], ["backups.age"]]
    assert [where for where, _ in found[0].failures[0].places] == ["shop/api", "shop/db"]
    assert found[1].command == "batten backup -i inv --to DIR"


def test_commands_are_quoted_for_a_shell() -> None:
    assert remedy("limits.memory", "my inventory; reboot")[1] == "batten up -i 'my inventory; reboot'"
    assert remedy("limits.memory", "")[1] == "batten up -i INVENTORY"


@pytest.mark.parametrize("name", sorted(REMEDIES))
def test_what_to_type_is_about_a_control_that_there_is_and_is_what_batten_takes(name: str) -> None:
    assert name in catalogue()
    words = shlex.split(remedy(name, "my inventory")[1])
    if words:
        assert words[0] == "batten"
        verb = importlib.import_module(f"batten.cli.{words[1]}")
        parser = Parser(prog=words[1])
        verb.arguments(parser)
        assert parser.parse_args(words[2:]).inventory == "my inventory"


def test_certificates_that_several_services_have_are_one_line() -> None:
    names = ("api/ca.crt", "db/ca.crt", "db/server.crt")
    ends = tuple(Expiry("certificate", "shop", name, "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z") for name in names)
    host = HostReport("web1", {}, 0, 0, expiries=(*ends, Expiry("secret", "shop", "key", "2026-11-13T00:00:00Z", None)))
    (found,) = page(Report((control(),), hosts=(host,), at="2026-11-23T09:00:00Z")).hosts
    assert [(one.name, one.users, one.days, one.soon) for one in found.ends] == [
        ("ca.crt", ("api", "db"), 8, True),
        ("server.crt", ("db",), 8, True),
    ]
    assert [(one.name, one.age) for one in found.secrets] == [("key", 10)]


def test_bars_are_shares_of_the_largest_limit() -> None:
    usage = (Usage("shop", "api", 50, 25), Usage("shop", "db", 100, 95), Usage("shop", "migrate", 10))
    (found,) = page(Report((control(),), hosts=(HostReport("web1", {}, 200, 20, usage),))).hosts
    assert [(one.service, one.limit_share, one.used_share, one.near) for one in found.bars] == [
        ("db", 100, 95, True),
        ("api", 50, 25, False),
        ("migrate", 10, 0, False),
    ]
    assert found.budget is not None
    assert [(kind, share) for kind, _, _, _, share in found.budget.parts] == [
        ("used", 60),
        ("promised", 20),
        ("foreign", 10),
        ("left", 10),
    ]


def test_a_host_promised_more_than_it_has_is_drawn_whole() -> None:
    (found,) = page(Report((), hosts=(HostReport("web1", {}, 100, 0, (Usage("s", "a", 150, 30),)),))).hosts
    assert found.budget is not None
    assert sum(share for *_, share in found.budget.parts) == 100


def test_a_waiver_is_told_with_its_state() -> None:
    waiver = waivers.Waiver("limits.memory", "because", date(2026, 12, 1))
    told = waivers.told([waiver], [control("waived")], date(2026, 11, 23))
    assert [one["state"] for one in told] == ["counts"]
    words = Document(html(Report((control("waived"),), waivers=told, at="2026-11-23T00:00:00Z"))).words
    assert "because 2026-12-01 8 days left" in words


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), min_size=1, max_size=40))
@pytest.mark.parametrize(
    "wrap", ["{}", "<img src=x onerror={}>", "</style><script>{}</script>", "' onload='{}", "{{{{{}}}}}"]
)
def test_whatever_a_host_says_stays_text(wrap: str, text: str) -> None:
    """The page has the tags and attributes that it has with harmless words, whatever stands in them."""
    evil = wrap.format(text)
    harmless = re.sub("[^/.]", "x", evil)  # these two have a meaning: they part names
    assert shape(hostile(evil), evil) == shape(hostile(harmless), harmless)


def hostile(evil: str) -> Report:
    """A report in which every text that comes from elsewhere is this one."""
    look = {"at": evil, "drift": 1, "rows": [{"name": evil, "facet": evil}]}
    host = HostReport(
        name=evil,
        versions={"system": evil, "engine": evil},
        memory_bytes=100,
        foreign_bytes=0,
        usage=(Usage(evil, evil, 50, 10),),
        images=(ImageInUse(evil, evil, evil, (evil,)),),
        expiries=(Expiry("secret", evil, evil, evil, None), Expiry("secret", evil, evil, evil, "2027-01-01")),
        drift={"at": evil, "count": 1, "history": [look]},
    )
    statuses: tuple[Status, ...] = ("fail", "waived", "pass")
    waiver = {
        "control": evil,
        "host": evil,
        "service": None,
        "reason": evil,
        "expires": "2027-01-01",
        "state": "counts",
    }
    return Report(
        tuple(Control(f"x.{evil}", evil, evil, evil, evil, status, evil, evil) for status in statuses),
        ({"host": "other" + evil, "what": evil, "fix": evil},),
        stand_ins=({"host": evil, "stack": evil, "service": evil, "image": evil, "software": evil},),
        hosts=(host,),
        waivers=(waiver,),
        at="2026-11-23T09:30:00Z",
    )


def shape(report: Report, inventory: str) -> tuple[list[str], list[str]]:
    """The tags and the names of attributes of a report's page, which must be fit to be sent."""
    written = html(report, inventory=inventory, version=inventory)
    written.encode()
    document = Document(written)
    return document.tags, [name for name, _ in document.attributes]


def test_the_template_turns_nothing_off() -> None:
    template = (HERE / "report.html.j2").read_text()
    assert "| safe" not in template
    assert "autoescape false" not in template
