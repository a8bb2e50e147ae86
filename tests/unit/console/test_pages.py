"""What pages say, and what they do with what others wrote."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from ext_proc.approval.hold import OBJECTIONS
from ext_proc.console import seen
from ext_proc.errors import ApprovalUnavailable, AuditUnavailable
from ext_proc.model import HoldState
from tests.fakes.console_desk import named
from tests.fakes.console_rooms import exchange_id, hold_id, person, reference

if TYPE_CHECKING:
    from tests.fakes.console_desk import Browser, Desk

HOLD = f"/holds/{hold_id(1)}"
EXCHANGE = f"/exchanges/{exchange_id(1)}"
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}${7*7}</textarea></pre>"
SAID = {"answer": "approve", "justification": "Checked with the customer."}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def _is_safe(page: str) -> None:
    found = _Tags()
    found.feed(page)
    assert found.tags.count("script") <= 1 and found.handlers == []
    assert [tag for tag in found.tags if tag == "img"] in ([], ["img"])  # the mark beside our own name
    assert "<script>alert" not in page and ">49<" not in page and "alert(1)" in page


async def test_what_a_prompt_says_is_text(desk: Desk) -> None:
    await desk.approvals.add(
        1, person(f"ada{EVIL}", f"analysts{EVIL}"), text=f"Say {EVIL} [EMAIL]", clear=f"Clear {EVIL}", model=f"m{EVIL}",
        reason=f"Because {EVIL}", clear_to=("approvers",), count=2, findings=((f"E{EVIL}", 1),),
    )  # fmt: skip
    bob = await desk.signed_in("bob")
    await bob.post(f"{HOLD}/resolution", {"answer": "approve", "justification": EVIL})

    pages = [
        await bob.get("/holds"),
        await bob.get("/holds/rows"),
        await bob.get(HOLD),
        await bob.post(f"{HOLD}/clear", {}),
    ]
    again = await bob.post(f"{HOLD}/resolution", {"answer": "deny", "justification": EVIL})
    lost = await desk.browser().post(f"{HOLD}/resolution", {"answer": "deny", "justification": EVIL})

    assert [page.status for page in pages] == [200] * 4
    for page in (*pages, again, lost):
        _is_safe(page.text)


async def test_what_an_exchange_says_is_text(desk: Desk) -> None:
    desk.exchanges.add(
        1, said=EVIL, model=f"m{EVIL}", connection=f"c{EVIL}", code=f"k{EVIL}", outcome=f"o{EVIL}",
        facts=(seen.Fact(f"n{EVIL}", f"v{EVIL}"),), masked=(seen.Count(f"E{EVIL}", 2),),
    )  # fmt: skip
    desk.exchanges.policies = (
        seen.Activation(
            desk.clock(),
            EVIL,
            "ab" * 32,
            EVIL,
            is_current=True,
            differences=(seen.Difference(EVIL, "changed", (f"+{EVIL}",)),),
        ),
    )
    found = (seen.FindingSeen(EVIL, EVIL, EVIL),)
    desk.exchanges.standing = seen.Standing(
        seen.Verified(desk.clock(), False, 3, 1, found),
        (seen.Reconciled(EVIL, desk.clock(), 5, 4, 1, (seen.Count(EVIL, 1),)),),
        (seen.Head(EVIL, 7, "ab" * 32, desk.clock()),),
    )
    desk.exchanges.drawn = seen.Charts(desk.clock(), desk.clock(), (), (seen.Count(EVIL, 9),))
    audrey = await desk.signed_in("audrey")

    pages = [await audrey.get(path) for path in ("/exchanges", EXCHANGE, "/policies", "/verification", "/charts")]
    pages.append(await audrey.post(f"{EXCHANGE}/payloads", {"purpose": "ticket 7"}))
    pages.append(await audrey.get("/exchanges", params={"query": EVIL, "model": EVIL}))

    assert [page.status for page in pages] == [200] * 7
    for page in pages:
        _is_safe(page.text)


async def test_what_somebody_is_called_is_text(desk: Desk) -> None:
    browser = await desk.signed_in(person(EVIL, EVIL, tenant=EVIL))

    _is_safe((await browser.get("/me")).text)
    _is_safe((await browser.get("/nowhere")).text)


# Holds --------------------------------------------------------------------------------------------------------------


async def test_inbox_shows_what_waits(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts", "approvers"))
    page = (await (await desk.signed_in("bob")).get("/holds")).text

    assert "1 call waits" in page and "demo-restricted" in page and "This model needs a second person." in page
    assert "0 of 1" in page and "EMAIL" in page and HOLD in page


async def test_hold_is_masked_and_marked(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"), clear_to=("other",))
    bob = await desk.signed_in("bob")

    page = (await bob.get(HOLD)).text
    clear = (await bob.post(f"{HOLD}/clear", {})).text

    assert '<mark title="EMAIL, mask">[EMAIL]' in page and "grace@example.org" not in page
    assert "Show it in clear" not in page
    assert "grace@example.org" not in clear and "What the model would get" in clear
    assert (await (await desk.with_token("bob")).send(f"{HOLD}/clear", {})).json()["clear"] is None


async def test_clear_text_where_allowed_and_asked_for(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"), clear_to=("approvers",))
    bob = await desk.signed_in("bob")

    page = (await bob.get(HOLD)).text
    clear = (await bob.post(f"{HOLD}/clear", {})).text

    assert "grace@example.org" not in page and "Show it in clear" in page
    assert "grace@example.org" in clear and "on record" in clear
    assert desk.approvals.views == [("bob", hold_id(1), False), ("bob", hold_id(1), True)]


async def test_own_call_is_shown_and_cannot_be_resolved(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts", "approvers"), clear_to=("approvers",))
    ada = await desk.signed_in("ada")

    page = await ada.get(HOLD)
    sent = await ada.post(f"{HOLD}/resolution", SAID)
    clear = await ada.post(f"{HOLD}/clear", {})

    assert OBJECTIONS["own_call"] in page.text and 'value="approve"' not in page.text
    assert sent.status == 403 and OBJECTIONS["own_call"] in sent.text
    assert "grace@example.org" not in clear.text
    assert desk.approvals.actions == []


async def test_what_nobody_can_read_can_only_be_denied(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    desk.approvals.erase(1)
    bob = await desk.signed_in("bob")

    page = (await bob.get(HOLD)).text
    yes = await bob.post(f"{HOLD}/resolution", SAID)
    no = await bob.post(f"{HOLD}/resolution", {**SAID, "answer": "deny"})

    assert OBJECTIONS["unreadable"] in page and 'value="approve"' not in page and 'value="deny"' in page
    assert yes.status == 409 and OBJECTIONS["unreadable"] in yes.text and SAID["justification"] in yes.text
    assert no.status < 400 and [one[2] for one in desk.approvals.actions] == [False]


@pytest.mark.parametrize(("answer", "state"), [("approve", HoldState.APPROVED), ("deny", HoldState.DENIED)])
async def test_resolving(desk: Desk, answer: str, state: HoldState) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    bob = await desk.signed_in("bob")

    sent = await bob.post(f"{HOLD}/resolution", {**SAID, "answer": answer})
    page = await bob.get(HOLD)

    assert (sent.status, sent.headers["location"]) == (303, HOLD)
    assert f'class="state state-{state}">{state}' in page.text and "Checked with the customer." in page.text
    assert desk.approvals.actions == [("bob", hold_id(1), answer == "approve", "console")]


async def test_first_of_two_is_told_that_it_waits_for_another(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"), count=3)
    bob, carol = await desk.signed_in("bob"), await desk.signed_in("carol")

    await bob.post(f"{HOLD}/resolution", SAID)
    page, inbox = (await bob.get(HOLD)).text, (await bob.get("/holds")).text
    await carol.post(f"{HOLD}/resolution", SAID)
    later = (await bob.get(HOLD)).text

    assert "You have agreed; 2 more people must agree." in page and OBJECTIONS["already_said"] not in page
    assert 'value="approve"' not in page and '<b><span title="bob">you</span></b>' in page
    assert "You have agreed; 1 more person must agree." in later and "<b>carol</b>" in later
    assert "0 calls wait" in inbox and "Nothing waits" in inbox
    assert HOLD in inbox.partition("You have agreed; others must too")[2]
    assert "others must too" not in (await desk.browser().get("/holds")).text
    await desk.approvals.put(1, state=HoldState.APPROVED)
    assert "<p>You have agreed.</p>" in (await bob.get(HOLD)).text
    assert "others must too" not in (await bob.get("/holds")).text


async def test_who_denied_is_told_that_they_did(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    bob = await desk.signed_in("bob")
    await bob.post(f"{HOLD}/resolution", {**SAID, "answer": "deny"})

    assert "<p>You have denied this.</p>" in (await bob.get(HOLD)).text


async def test_references_are_short_everywhere_and_whole_in_the_title(desk: Desk) -> None:
    ref, other = "hmac-sha256:" + "ab" * 32, "hmac-sha256:" + "cd" * 32
    desk.exchanges.add(1, subject_ref=ref, facts=(seen.Fact("By", other),))
    await desk.approvals.add(1, person(ref, "analysts"))
    audrey, bob = await desk.signed_in("audrey"), await desk.signed_in("bob")
    short = f'<code title="{ref}">abababab…</code>'

    for page in (
        (await audrey.get("/exchanges")).text,
        (await audrey.get(EXCHANGE)).text,
        (await bob.get("/holds")).text,
    ):
        assert short in page and page.count(ref) == page.count(f'title="{ref}"')
    assert f'<code title="{other}">cdcdcdcd…</code>' in (await audrey.get(EXCHANGE)).text
    assert "<h1 title=" in (hold := (await bob.get(HOLD)).text) and ">abababab… asks for demo-restricted</h1>" in hold


async def test_viewers_are_you(desk: Desk) -> None:
    audrey, me = await desk.signed_in("audrey"), reference(named("audrey"))
    desk.exchanges.add(1, subject_ref=me)
    await desk.approvals.add(1, person("ada", "analysts", "approvers"))

    for path in ("/exchanges", EXCHANGE):
        assert f'<span title="{me}">you</span>' in (await audrey.get(path)).text
    assert ">You ask for demo-restricted</h1>" in (await (await desk.signed_in("ada")).get(HOLD)).text


async def test_double_click(desk: Desk) -> None:
    """Two at once: one is first, the other is told so."""
    await desk.approvals.add(1, person("ada", "analysts"))
    bob, carol = await desk.signed_in("bob"), await desk.signed_in("carol")

    twice = await asyncio.gather(bob.post(f"{HOLD}/resolution", SAID), bob.post(f"{HOLD}/resolution", SAID))
    late = await carol.post(f"{HOLD}/resolution", {"answer": "deny", "justification": "No, not so."})

    assert sorted(one.status for one in twice) == [303, 409]
    assert OBJECTIONS["already_said"] in next(one.text for one in twice if one.status == 409)
    assert late.status == 409 and OBJECTIONS["already_approved"] in late.text and "No, not so." in late.text
    assert len(desk.approvals.actions) == 1


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (HoldState.USED, "already_used"), (HoldState.DENIED, "already_denied"), (HoldState.EXPIRED, "expired"),
        (HoldState.WITHDRAWN, "withdrawn"), (HoldState.ABANDONED, "abandoned"), (HoldState.CLAIMED, "already_approved"),
    ],
)  # fmt: skip
async def test_what_is_over_is_over(desk: Desk, state: HoldState, code: str) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    await desk.approvals.put(1, state=state)
    bob, program = await desk.signed_in("bob"), await desk.with_token("bob")

    page, sent = await bob.get(HOLD), await bob.post(f"{HOLD}/resolution", SAID)
    twin = await program.send(f"{HOLD}/resolution", SAID)

    assert OBJECTIONS[code] in page.text and 'value="approve"' not in page.text
    assert sent.status == 409 and OBJECTIONS[code] in sent.text and SAID["justification"] in sent.text
    assert twin.status == 409 and twin.json()["error"]["code"] == code


async def test_expires_while_the_page_is_open(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"), within_seconds=60)
    bob = await desk.signed_in("bob")
    assert 'value="approve"' in (await bob.get(HOLD)).text

    desk.clock.move(seconds=61)
    sent = await bob.post(f"{HOLD}/resolution", SAID)

    assert sent.status == 409 and OBJECTIONS["expired"] in sent.text


async def test_verify_is_at_the_top_of_the_page(desk: Desk) -> None:
    desk.exchanges.add(1)
    page = (await (await desk.signed_in("audrey")).get(EXCHANGE)).text

    assert page.count("Verify it now") == 1
    assert page.index("<h1") < page.index("Verify it now") < page.index("What happened")


async def test_how_much_is_asked_for_is_what_the_configuration_says(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    desk.console._settings = replace(desk.console._settings, justification_min=12)
    bob = await desk.signed_in("bob")

    sent = await bob.post(f"{HOLD}/resolution", {"answer": "deny", "justification": "no"})
    twin = await (await desk.with_token("bob")).send(f"{HOLD}/resolution", {"answer": "deny", "justification": "no"})

    for page in (await bob.get(HOLD), sent):
        assert 'minlength="12"' in page.text
    assert "in 12 to 2000 characters" in sent.text and "in 12 to 2000 characters" in twin.text


@pytest.mark.parametrize("words", ["", "  \n ", "no", "." * 12, "x" * 2001])
async def test_reason_is_wanted_and_what_was_typed_stays(desk: Desk, words: str) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    sent = await (await desk.signed_in("bob")).post(f"{HOLD}/resolution", {"answer": "deny", "justification": words})

    assert sent.status == 422 and OBJECTIONS["justification_required"] in sent.text and words in sent.text
    assert desk.approvals.actions == []


@pytest.mark.parametrize(
    "form", [{}, {"answer": "maybe", "justification": "x"}, {"answer": "APPROVE", "justification": "x"}]
)
async def test_answer_that_is_none(desk: Desk, form: dict[str, str]) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    sent = await (await desk.signed_in("bob")).post(f"{HOLD}/resolution", form)

    assert sent.status == 400 and "approve or deny" in sent.text and desk.approvals.actions == []


async def test_session_that_ends_in_the_middle_of_a_form_loses_no_words(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    bob = await desk.signed_in("bob")
    token = await bob.csrf()
    desk.clock.move(minutes=31)

    sent = await bob.post(f"{HOLD}/resolution", {"answer": "approve", "justification": "A long thought."}, csrf=token)

    assert sent.status == 401 and "A long thought." in sent.text and f"/login?to=%2Fholds%2F{hold_id(1)}" in sent.text
    assert desk.approvals.actions == []


async def test_approver_who_left_the_group_in_between(desk: Desk) -> None:
    """Roles and groups are those of the session's token; the next one says otherwise."""
    await desk.approvals.add(1, person("ada", "analysts"))
    bob = await desk.signed_in(person("bob", "formers"))

    assert (await bob.post(f"{HOLD}/resolution", SAID)).status == 403 and desk.approvals.actions == []


async def test_several_approvers_are_several_people(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"), count=2)
    bob, carol = await desk.signed_in("bob"), await desk.signed_in("carol")
    elsewhere = await desk.signed_in("bob")

    await bob.post(f"{HOLD}/resolution", SAID)
    twice = await elsewhere.post(f"{HOLD}/resolution", SAID)
    assert "1 of 2" in (await carol.get("/holds")).text
    await carol.post(f"{HOLD}/resolution", SAID)

    assert twice.status == 409
    assert "2 of 2" in (await carol.get(HOLD)).text


async def test_ten_thousand_wait(desk: Desk) -> None:
    for number in range(10_000):
        await desk.approvals.add(number, person("ada", "analysts"), is_quiet=True)
    bob = await desk.signed_in("bob")

    first = await bob.get("/holds")
    second = await bob.get(f"/holds?after={hold_id(49)}")
    last = await bob.get(f"/holds?after={hold_id(9_949)}&limit=200")

    assert "10\u202f000 calls wait" in first.text and first.text.count("data-row") == 50
    assert f"after={hold_id(49)}" in first.text and f"/holds/{hold_id(50)}" in second.text
    assert last.text.count("data-row") == 50 and 'class="pager"' not in last.text


# The evidence -------------------------------------------------------------------------------------------------------


async def test_search_filters_and_pages(desk: Desk) -> None:
    for number in range(1, 61):
        desk.exchanges.add(
            number,
            decision="deny" if number % 3 == 0 else "allow",
            outcome="denied" if number % 3 == 0 else "completed",
        )
    audrey = await desk.signed_in("audrey")

    every = await audrey.get("/exchanges?limit=25")
    older = await audrey.get(f"/exchanges?limit=25&after={exchange_id(25)}")
    denied = await audrey.get("/exchanges?decision=deny&query=")
    one = await audrey.get(f"/exchanges?query={exchange_id(7)}")

    assert (
        "60 found" in every.text
        and every.text.count("data-row") == 25
        and f'name="after" value="{exchange_id(25)}"' in every.text
    )
    assert (
        exchange_id(26) in older.text
        and exchange_id(25) + '"' not in older.text.partition("<tbody>")[2].partition("</tbody>")[0]
    )
    assert "20 found" in denied.text and "<option selected>deny</option>" in denied.text
    assert "1 found" in one.text and f'value="{exchange_id(7)}"' in one.text


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=x",
        "limit=201",
        "limit=1_0",
        "decision=maybe",
        "since=yesterday",
        "model=" + "x" * 201,
        "code=a%0ab",
        "until=%00",
    ],
)
async def test_search_that_cannot_be_meant(desk: Desk, query: str) -> None:
    audrey = await desk.signed_in("audrey")

    page, twin = await audrey.get(f"/exchanges?{query}"), await audrey.get(f"/api/v1/exchanges?{query}")

    assert page.status == 400 and "must be" in page.text
    assert twin.status == 400 and twin.json()["error"]["code"] == "bad_ask"


async def test_exchange_tells_its_story_and_its_proof(desk: Desk) -> None:
    desk.exchanges.add(1, hold_id=hold_id(4))
    page = (await (await desk.signed_in("audrey")).get(EXCHANGE)).text

    steps = ["Received", "The policy decided", "Masked", "Passed on to the model", "Released"]
    assert sorted(steps, key=page.index) == steps
    assert "COMPLIANCE until" in page and f"/holds/{hold_id(4)}" in page and "grace@example.org" not in page


async def test_bodies_are_opened_for_a_purpose_that_is_on_record(desk: Desk) -> None:
    desk.exchanges.add(1)
    audrey = await desk.signed_in("audrey")

    page = await audrey.post(f"{EXCHANGE}/payloads", {"purpose": "ticket 7"})

    assert desk.exchanges.readings == [("audrey", exchange_id(1), "ticket 7")]
    assert '<mark title="EMAIL, mask">grace@example.org' in page.text and "its key was destroyed" in page.text
    assert (await audrey.get(f"{EXCHANGE}/payloads")).status == 405


@pytest.mark.parametrize("purpose", ["", "   ", "x" * 501, "a\nb", "a\u202eb"])
async def test_bodies_want_a_purpose(desk: Desk, purpose: str) -> None:
    desk.exchanges.add(1)
    sent = await (await desk.signed_in("audrey")).post(f"{EXCHANGE}/payloads", {"purpose": purpose})

    assert sent.status == 400 and "kept with the record" in sent.text and desk.exchanges.readings == []


@pytest.mark.parametrize(
    ("is_ok", "words"), [(True, "Nothing was changed"), (False, "Something is not as it was written")]
)
async def test_verifying_one(desk: Desk, is_ok: bool, words: str) -> None:
    desk.exchanges.add(1, is_ok=is_ok)
    page = await (await desk.signed_in("audrey")).post(f"{EXCHANGE}/verification", {})

    assert words in page.text and ("wrong" in page.text) is not is_ok


async def test_standing_of_nothing_and_of_something(desk: Desk) -> None:
    oscar = await desk.signed_in("oscar")
    nothing = (await oscar.get("/verification")).text
    desk.exchanges.standing = seen.Standing(
        seen.Verified(desk.clock() - timedelta(hours=2), True, 12345, 3),
        (seen.Reconciled("2026-11-24", desk.clock(), 900, 899, 1, (seen.Count("refused_by_envoy", 2),)),),
        (seen.Head("demo/gw-0-1/e", 412, "ab" * 32, desk.clock()),),
    )
    something = (await oscar.get("/verification")).text

    assert "Not verified yet" in nothing and "affidavit reconcile" in nothing
    assert (
        "12\u202f345 records in 3 logs" in something
        and "refused_by_envoy" in something
        and "demo/gw-0-1/e" in something
    )


async def test_policies_and_what_differs(desk: Desk) -> None:
    changed = seen.Difference("inference/decision.rego", "changed", ("-a := 1", "+a := 2"))
    desk.exchanges.policies = (
        seen.Activation(desk.clock(), "r2", "ab" * 32, "demo/gw-0-1/e", is_current=True, differences=(changed,)),
        seen.Activation(desk.clock(), "r1", "cd" * 32, "demo/gw-0-1/e", is_current=False),
    )
    page = (await (await desk.signed_in("paula")).get("/policies")).text

    assert "decides now" in page and '<span class="plus">+a := 2' in page and '<span class="minus">-a := 1' in page
    assert "only one of the two bundles" in page
    assert page.count("not on record as locked") == 2
    assert "not taken" not in page and "candidate" not in page


async def test_bundles_that_were_refused_and_what_a_candidate_would_do(desk: Desk) -> None:
    now, origin = desk.clock(), "demo/gw-0-shipper/e"
    desk.exchanges.policies = (
        seen.Activation(now, "r2", "ab" * 32, origin, is_current=True, archived_at=now, number=7, key_id="policy-2026"),
    )
    desk.exchanges.refused = (seen.BundleRefused(now, "cd" * 32, "number_reused", 7, origin),)
    desk.exchanges.shadows = (
        seen.ShadowSeen("ef" * 32, "r3", "newly_denied", 12, now, now, "exchange-9"),
        seen.ShadowSeen(None, None, "no_decision", 1, now, now, "exchange-8"),
    )
    page = (await (await desk.signed_in("paula")).get("/policies")).text

    assert "signed with <code>policy-2026</code>" in page and "locked in the bucket, on record since" in page
    assert "Published, and not taken" in page and "number_reused" in page
    assert "newly denied" in page and "<td>12</td>" in page and "<td>no decision</td>" in page


@pytest.mark.parametrize("hours", [1, 24, 168])
async def test_charts_have_tables(desk: Desk, hours: int) -> None:
    page = (await (await desk.signed_in("oscar")).get(f"/charts?hours={hours}")).text

    assert page.count("<svg") == page.count("The numbers") == 5
    assert page.count('<th scope="row">') == 4 * hours + 5


# When something is not to be had --------------------------------------------------------------------------------------


async def _pages(browser: Browser) -> list[tuple[int, str]]:
    return [
        (one.status, one.text)
        for one in (
            await browser.get("/holds"),
            await browser.get(HOLD),
            await browser.post(f"{HOLD}/resolution", SAID),
        )
    ]


async def test_register_that_is_down(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    bob = await desk.signed_in("bob")
    desk.approvals.failure = ApprovalUnavailable("down")

    for status, text in await _pages(bob):
        assert status == 503 and "Try again" in text and "Traceback" not in text


async def test_evidence_that_is_down(desk: Desk) -> None:
    desk.exchanges.failure = AuditUnavailable("down")
    audrey = await desk.signed_in("audrey")

    for path in ("/exchanges", EXCHANGE, "/charts", "/policies", "/verification"):
        assert (await audrey.get(path)).status == 503
    assert (await audrey.get("/api/v1/exchanges")).headers["retry-after"] == "5"


async def test_bug_is_a_page_and_says_nothing_of_itself(desk: Desk) -> None:
    desk.approvals.failure = RuntimeError("secret words")
    bob = await desk.signed_in("bob")

    page, twin = await bob.get("/holds"), await bob.get("/api/v1/holds")

    assert (page.status, twin.status) == (500, 500)
    assert "secret words" not in page.text + twin.text and "content-security-policy" in page.headers


async def test_too_much_and_unreadable(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    bob, program = await desk.signed_in("bob"), await desk.with_token("bob")
    path = f"{HOLD}/resolution"
    json_kind = {"content-type": "application/json"}

    much = await bob.post(path, {"justification": "x" * 70_000})
    bad = [
        await program._ask("POST", f"/api/v1{path}", {"data": body, "headers": json_kind})
        for body in (b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 5000)
    ]
    odd = [
        await program.send(path, told)
        for told in (
            {"answer": 1},
            {"answer": "approve", "justification": 7},
            {"answer": "approve", "justification": "\ud800"},
        )
    ]

    assert much.status == 413
    assert {one.status for one in (*bad, *odd)} == {400}
    assert desk.approvals.actions == []


async def test_method_that_is_none(desk: Desk) -> None:
    bob = await desk.signed_in("bob")

    answer = await bob.post("/holds", {})

    assert answer.status == 405 and "GET" in answer.headers["allow"]
