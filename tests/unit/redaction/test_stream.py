"""A stream's redaction: what goes on when, what is told, what is held."""

from __future__ import annotations

import sys

import pytest

from ext_proc.model import Action, RedactionRule
from ext_proc.redaction import RULES_VERSION, Redactor, StreamRedactor
from ext_proc.redaction.detect import BUILT_IN
from ext_proc.redaction.look import HELD_TOO_LONG, REACH, WITHHELD, Look
from ext_proc.redaction.looker import Looker
from ext_proc.redaction.reading import Reading
from ext_proc.redaction.rules import PACKS, RULES
from tests.unit.redaction.streams import EXAMPLES, KEY, in_chunks, stream, streamed, whole

TOKEN = "ghp_" + "a1B2" * 9
JWT = "eyJ" + "aB3" * 20 + "." + "cD4" * 2000 + "." + "eF5" * 14
PEM = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(["aB3d" * 16] * 200) + "\n-----END PRIVATE KEY-----"


def rule(entity: str, action: Action) -> RedactionRule:
    return RedactionRule(entity, action)


def test_prose_goes_on_word_by_word() -> None:
    redactor = stream()
    said = [redactor.feed(chunk) for chunk in ("The ", "answer", ", as", " you", " know", ", was", " short", ".")]
    assert said == ["", "The ", "answer, ", "as ", "you ", "know, ", "was ", ""]
    assert redactor.finish() == "short."


def test_a_value_in_parts() -> None:
    redactor = stream()
    said = [redactor.feed(chunk) for chunk in ("to ", "bo", "b@exam", "ple.o", "rg, ", "ok")]
    assert said == ["", "to ", "", "", "[EMAIL],", " "]
    assert redactor.finish() == "ok"
    (removal,) = redactor.removals
    assert (removal.start, removal.end, removal.entity, removal.rule) == (3, 18, "EMAIL", "email")
    assert (removal.version, removal.action) == (RULES_VERSION, Action.MASK)
    assert (redactor.scanned, redactor.held) == (22, 0)


def test_places_are_code_points_of_the_channel_as_it_is() -> None:
    text = "\U0001f600 bo\u200bb@example.org \u00e9 4111&#32;1111 1111 1111 ok"
    redactor = StreamRedactor(path="/x")
    assert streamed(list(text), redactor) == whole(text)
    assert [(text[one.start : one.end], one.channel) for one in redactor.removals] == [
        ("bo\u200bb@example.org", "/x"),
        ("4111&#32;1111 1111 1111", "/x"),
    ]


@pytest.mark.parametrize("action", list(Action))
def test_each_action(action: Action) -> None:
    rules = (rule("EMAIL", action),)
    text = "to bob@example.org, and on"
    redactor = stream(rules)
    said = streamed(in_chunks(text, 4), redactor)
    if action is Action.BLOCK:
        assert (said, redactor.blocked) == ("to ", ("EMAIL",))
    else:
        assert (said, redactor.blocked) == (whole(text, rules), ())


def test_what_is_blocked_is_told_before_anything_more_goes_on() -> None:
    redactor = stream((rule("SECRET_GITHUB", Action.BLOCK),))
    said = ""
    for chunk in in_chunks(f"key {TOKEN} and more", 4):
        said += redactor.feed(chunk)
        if redactor.blocked:
            break
    assert (said, redactor.blocked) == ("key ", ("SECRET_GITHUB",))
    assert redactor.feed("anything") == redactor.finish() == redactor.flush_masked() == ""
    assert [one.action for one in redactor.removals] == [Action.BLOCK]


@pytest.mark.parametrize(
    ("value", "entity"), [(JWT, "SECRET_JWT"), (PEM, "SECRET_PEM"), ("sk-" + "aB3d" * 900, "SECRET_API_KEY")]
)
@pytest.mark.parametrize("size", [1, 4, 50])
def test_a_value_without_an_end_is_told_early_and_swallowed(value: str, entity: str, size: int) -> None:
    text = f"It: {value} and on."
    redactor = stream()
    said, told_at, most = "", 0, 0
    for chunk in in_chunks(text, size):
        said += redactor.feed(chunk)
        told_at = told_at or (redactor.scanned if entity in said else 0)
        most = max(most, sum(len(look.rest) for look in redactor._looks))
    assert 0 < told_at < 1200 < len(value)
    assert most < len(text)
    assert said + redactor.finish() == f"It: [{entity}] and on." == whole(text)
    assert [(text[one.start : one.end] == value, one.entity) for one in redactor.removals] == [(True, entity)]


def test_of_a_value_without_an_end_not_more_is_kept_than_may_be() -> None:
    redactor, most = stream(), 0
    for chunk in in_chunks("It: sk-" + "aB3d" * 20_000, 50):
        redactor.feed(chunk)
        most = max(most, sum(len(look._text) for look in redactor._looks))
    assert most < 34_000
    assert redactor.feed(" and on.") + redactor.finish() == " and on."


@pytest.mark.parametrize("text", ["4901693 mobile4111111111111111", "mobile 5014827:4111111111111111"])
def test_what_must_not_follow_a_value_is_masked_itself(text: str) -> None:
    """Then it is one: to whoever sees what is left."""
    assert whole(text).startswith(("[PHONE]", "mobile [PHONE]"))
    for size in (1, 4, 5, 100):
        assert streamed(in_chunks(text, size)) == whole(text)


def test_a_value_that_never_ends() -> None:
    text = "key: " + PEM[:9000]
    redactor = stream()
    assert streamed(in_chunks(text, 4), redactor) == whole(text)
    assert redactor.removals[-1].end == len(text)


@pytest.mark.parametrize("size", [1, 4, 5000])
def test_what_is_held_too_long_is_masked(size: int) -> None:
    run = "abcd" * 1000  # base64 of nothing that is text, or of something: nobody knows before it ends
    redactor = stream()
    assert streamed(in_chunks(f"see {run} and on.", size), redactor) == f"see [{WITHHELD}] and on."
    assert [(one.start, one.end, one.entity, one.rule) for one in redactor.removals] == [
        (4, 4004, WITHHELD, HELD_TOO_LONG)
    ]


def test_the_limit_is_the_callers() -> None:
    run = "abcd" * 20
    assert streamed(in_chunks(f"see {run} ok", 4)) == f"see {run} ok"
    redactor = stream(limit=40)
    said = ""
    for chunk in in_chunks(f"see {run} ok", 4):
        said += redactor.feed(chunk)
        assert redactor.held <= 40
    assert said + redactor.finish() == f"see [{WITHHELD}]ok"
    with pytest.raises(ValueError, match="limit"):
        StreamRedactor(limit=0)


def test_a_value_that_outlives_what_was_masked_is_masked_too() -> None:
    """It begins in what is held too long and ends after it: none of it goes on."""
    text = "x " + "A1b2" * 30 + "@example.org then bob"
    redactor = stream(limit=50)
    assert "example" not in streamed(in_chunks(text, 4), redactor)


def test_when_it_was_waited_for_long_enough_what_is_held_is_masked() -> None:
    redactor = stream()
    assert redactor.feed("call 4111 1111") == "call "
    assert redactor.flush_masked() == f"[{WITHHELD}]"
    assert redactor.flush_masked() == ""
    assert redactor.feed(" 1111 1111 and on ") + redactor.finish() == "and on "
    assert [(one.start, one.end) for one in redactor.removals] == [(5, 25)]


def test_nothing_held_nothing_masked() -> None:
    redactor = stream()
    assert redactor.feed("Well,") == "Well,"
    assert redactor.flush_masked() == ""
    assert redactor.feed("\nGood,") == "\nGood,"
    assert redactor.removals == ()


def test_the_key_that_a_channel_stands_under() -> None:
    for context, text in [
        ("password", "hunter2 and more"),
        ("ssn", "078051120"),
        ("phone", "2125550123"),
        ("note", "078051120"),
    ]:
        for size in (1, 4, 100):
            assert streamed(in_chunks(text, size), stream(context=context)) == whole(text, context=context)
    assert streamed(list("hunter2 and more"), stream(context="password")) == "[SECRET_PASSWORD]"


@pytest.mark.parametrize("action", [Action.DROP, Action.HASH, Action.MASK, Action.PARTIAL])
def test_what_stood_apart_is_looked_at_when_it_stands_together(action: Action) -> None:
    rules = (rule("EMAIL", action),)
    text = "4111 1111 1111 bob@example.org1111 and on"
    for size in (1, 4, 100):
        assert streamed(in_chunks(text, size), stream(rules)) == whole(text, rules)
    assert "1111 1111 1111 1111" not in streamed(list(text), stream(rules))


def test_words_come_nearer_when_others_go() -> None:
    """Words that announce a value are too far away, until what stands between is masked."""
    between = "https://app:hunter2hunter2hunter2hunter2hunter2hunter2hunter2hunter2@db.example.org"
    text = f"my ssn, {between}, is 078051120 now"
    for size in (1, 4, 7, 200):
        assert streamed(in_chunks(text, size)) == whole(text)


LONG_MAIL = "a.very.long.name.that.goes.on.and.on@mail.of.the.long.domain.example.org"


@pytest.mark.parametrize("mid", [" is ", " so it is, "])
def test_words_in_what_a_later_look_masks_announce_what_comes_next(mid: str) -> None:
    """The second look reads them: what went on says nothing of them any more."""
    text = f"4111111111111111sk-a1b2c3d4e5f6g7h8-ssn {LONG_MAIL}{mid}219099999 now and on"
    assert whole(text) == f"[PAYMENT_CARD][SECRET_API_KEY] [EMAIL]{mid}[US_SSN] now and on"
    for size in (1, 2, 3, 4, 7, 50, len(text)):
        assert streamed(in_chunks(text, size)) == whole(text)


@pytest.mark.parametrize("run", ["a" * 400, "QUJD" * 150, "abc-" * 100])
def test_words_come_nearer_also_where_much_went_on_with_what_was_masked(run: str) -> None:
    text = f"{run} ssn {LONG_MAIL} so it is, 219099999 now and on"
    assert whole(text) == f"{run} ssn [EMAIL] so it is, [US_SSN] now and on"
    for size in (1, 2, 3, 4, 7, 50, len(text)):
        assert streamed(in_chunks(text, size)) == whole(text)


@pytest.mark.parametrize(
    "text",
    [
        "my driver license number is d\u00b2\u00b2\u00b2\u00b2\u00b2\u00b2\u00b2 and so on",
        "my driver license number is d\u2460\u2461\u2462\u2463\u2464\u2465 and so on",
        "my driver license number is abcdefg&Copf; and so on",
        "my driver license number is abcdefg\x00C and so on",
    ],
)
def test_what_is_a_plain_word_only_as_it_stands(text: str) -> None:
    """A reader sees a number: in digits that are no decimal ones, or in capitals that an escape says."""
    assert whole(text) == "my driver license number is [DRIVER_LICENSE] and so on"
    for size in (1, 4, 7, len(text)):
        assert streamed(in_chunks(text, size)) == whole(text)


def test_an_allowed_value_waits_for_one_that_begins_in_it() -> None:
    """Together they are one, which may not stay. (With `partial`, no look takes care of what the next one needs.)"""
    rules = (rule("IP_ADDRESS", Action.ALLOW), rule("PHONE", Action.PARTIAL))
    text = "see 2001:db8::1@x.org and on"
    assert whole(text, rules) == "see [EMAIL] and on"
    for size in (1, 2, 3, 4, 7, len(text)):
        assert streamed(in_chunks(text, size), stream(rules)) == whole(text, rules)


@pytest.mark.parametrize("action", [Action.HASH, Action.MASK, Action.PARTIAL])
def test_the_last_look(action: Action) -> None:
    """All that follows goes, and what stands for it does not depend on how much that was when it was told."""
    rules = (rule("PAYMENT_CARD", action), rule("IBAN", Action.HASH))
    text = "my 078-05-1120" + "DE89370400440532013000" * 2 + "4111111111111111, and the rest: 9876"
    for size in (1, 4, 50, len(text)):
        redactor = stream(rules)
        assert streamed(in_chunks(text, size), redactor) == whole(text, rules)
        assert redactor.removals == Redactor(KEY).edits("", text, BUILT_IN.scan(text), rules).removals


def test_a_placeholder_does_not_announce_what_follows_it() -> None:
    text = "+1 212 555 0123 or 5550199, and on"
    assert whole(text) == "[PHONE] or 5550199, and on"
    for size in (1, 4, 100):
        assert streamed(in_chunks(text, size)) == whole(text)


def test_what_announces_from_afar_is_not_forgotten() -> None:
    """A value without an anchor of its own is announced from no further back than a stream keeps."""
    said = "bob@x.orgYm9iQGV4YW1wbGUuY29tbob {at} example {dot} comsession_"
    for far in range(160, 400, 8):
        text = "and on. " * 40 + "bob @ example.com" + " so it is."[:10] * (far // 10) + " " + said + " and on"
        for size in (1, 4, 100):
            assert streamed(in_chunks(text, size)) == whole(text)


WITHHELD_ALIKE = (
    # The end of what is masked, where a text is known to be no value only by its length.
    (91, "a" * 28 + "bob@example.org " + "QUJD" * 24 + " sk-abcdefgh12345645678eyJ" + "a" * 26),
    (22, "DQUJDQUJDQUJDQUJDQUJDQUJDQUJD1 2 3 "),
    (20, "defgh12345678sk-abcdefgh12345678sk-abcdefgh12345678..eyJ" + "a" * 30 + "%40%"),
    # What follows is too long as well, and the second look is there in one chunking only.
    (52, "A1" * 6 + "sk-abcdefgh12345678" * 2 + "sk-bfgh12345678" + "QUJD" * 12 + "\n1A1AJ" + "DQUJ" * 11 + "D%40\n"),
    # The next look has only the beginning of what it will find, and that of what the first one let go.
    (27, "call npassword see born the is, key=vercelb @ example.com407768.)8"),
    # A value was told, and what follows it is longer than may be held when that is seen to be over.
    (91, "sk-abcdefgh12345678" * 3 + "a" * 40 + "%40sk-abcdefgh1234567" + "a" * 13 + "A1" * 29 + " 2a"),
    # What follows stands behind a letter only until that is masked.
    (27, "ABSK" + "aB3" * 30 + "(020)946095"),
)


@pytest.mark.parametrize(("limit", "text"), WITHHELD_ALIKE)
def test_what_is_withheld_does_not_depend_on_the_cuts(limit: int, text: str) -> None:
    once = stream(limit=limit)
    said = streamed([text], once)
    for size in (1, 4, 7, 50):
        redactor = stream(limit=limit)
        assert streamed(in_chunks(text, size), redactor) == said
        assert redactor.removals == once.removals


_PEM = "-----BEGIN PRIVATE KEY-----"
_JWT = "eyJhbGciOiJub25lIn0.eyJ" + "aB1" * 300
_ON = " and on. " * 30
GOES_ON = {
    "another one begins in it, and ends after it": f"see {_PEM}{'abc ' * 1500}{_JWT}-{'b' * 500}{_ON}",
    "and so does a third": f"see {_PEM}{'abc ' * 1500}{_JWT}-{'b' * 400}.Set-Cookie: id={'c' * 900}; {'d ' * 500}\n{_ON}",
    "it is over, but not all that began in it": f"{_PEM}a, \x1f: b {'c ' * 200}- to bob@example.org{_ON * 20}",
    "in two readings": f"see {_PEM}{'abc ' * 50}{'a&amp;b ' * 500}{_JWT}%2d-{'b' * 500}{_ON}",
    "no other": f"see {_PEM}{'abc ' * 2500} -hello{_ON}",
}


@pytest.mark.parametrize("name", GOES_ON)
def test_what_begins_in_a_value_that_goes_on(name: str) -> None:
    """However long the value is, what stands in it has a say in where it ends."""
    text = GOES_ON[name]
    expected = BUILT_IN.scan(text)[0]
    for size in (1, 4, 50, len(text)):
        redactor = stream()
        assert streamed(in_chunks(text, size), redactor) == whole(text)
        first = redactor.removals[0]
        assert (first.start, first.end, first.rule) == (expected.start, expected.end, expected.rule)


@pytest.mark.parametrize("head", ["Authorization: Bearer abcdefgh12345678" + "aB3" * 100, "ABSK" + "aB3" * 300])
def test_what_begins_right_behind_a_value_that_went_on(head: str) -> None:
    """There is no letter before it any more, and the value was told long before it came."""
    text = f"{head}(020)946095 and on"
    assert whole(text).endswith("[PHONE] and on")
    for size in (1, 2, 4, 7, 50):
        assert streamed(in_chunks(text, size)) == whole(text)


@pytest.mark.parametrize("repeats", [300, 310, 325])
def test_what_begins_behind_a_value_and_ends_before_another(repeats: int) -> None:
    """A dash must not follow it; the next look has none there, for the other value is masked as well."""
    text = "ABSK" + "aB3" * repeats + f"(020)946095{_PEM}"
    assert whole(text) == "[SECRET_CLOUD_KEY][PHONE][SECRET_PEM]"
    for size in (1, 3, 4, 50, len(text)):
        assert streamed(in_chunks(text, size)) == whole(text)


@pytest.mark.parametrize("action", [Action.DROP, Action.MASK, Action.ALLOW])
def test_a_link_gives_way_to_what_was_told_in_it(action: Action) -> None:
    """Also the rest of it, which comes later."""
    rules = (rule("URL", action),)
    text = "see https://hooks.slack.com/services/T0q2TjZg4a/B0rDTTP3Yz/b2iQTMIDNipX7dqftlJX7zVM*next and on"
    assert whole(text, rules) == "see [SECRET_SLACK]*next and on"
    for size in (1, 4, 7, len(text)):
        assert streamed(in_chunks(text, size), stream(rules)) == whole(text, rules)


@pytest.mark.parametrize(
    "text",
    [
        f"see {_PEM}{'abc ' * 9000}{_JWT}-{'b' * 500}{_ON}",
        f"see {_PEM}{'abc ' * 9000}{_JWT * 3}-{'b' * 900}{_ON}",
        f"see {'aB3' * 1000}+eyJ{'aB3' * 1500}.{'b' * 300}{_ON}",
    ],
    ids=["a value", "one that begins far back", "nobody knows what"],
)
def test_what_begins_in_what_is_too_long_to_be_kept(text: str) -> None:
    """It is masked as well, and the record says why."""
    found = [span for span in BUILT_IN.scan(text) if span.entity != "URL"]
    for size in (1, 4, 50, len(text)):
        redactor = stream()
        said = streamed(in_chunks(text, size), redactor)
        assert said.startswith("see [") and said.endswith(f"]{_ON}")
        (removal,) = redactor.removals
        assert removal.rule == HELD_TOO_LONG
        assert all(removal.start <= span.start and span.end <= removal.end for span in found)


@pytest.mark.parametrize("line", ["a&amp;b ", "a%41 ", "ab&#65; ", "a\\n ", "aB3d" * 16 + "\n"])
def test_the_last_character_of_what_is_masked_for_its_length(line: str) -> None:
    """It may end what nothing is alive of any more: the last dash of `-----END PRIVATE KEY-----` went on."""
    for length in (3_000, 9_000, 70_000):
        text = "-----BEGIN PRIVATE KEY-----" + line * (length // len(line)) + "-----END PRIVATE KEY-----"
        for size in (7, len(text)):
            assert streamed(in_chunks(text + " ok", size)) in {"[WITHHELD] ok", "[SECRET_PEM] ok"}


@pytest.mark.parametrize("wide", ["…", "\ufdfa", "㎉"])
def test_what_is_masked_for_its_length_ends_alike_behind_characters_that_stand_for_several(wide: str) -> None:
    """Read as `...`, the text is longer than it is: places in the one reading are none in the other."""
    text = (
        f"a{wide}" * 900
        + f"a@example.org a{wide}" * 40
        + f"a{wide}" * 900
        + "\\token: "
        + "aB3" * 1200
        + f" on a{wide}b and on"
    )
    once = stream()
    said = streamed([text], once)
    assert said.endswith(f" on a{wide}b and on")
    for size in (1, 7, 61, 400):
        redactor = stream()
        assert streamed(in_chunks(text, size), redactor) == said
        assert redactor.removals == once.removals


def test_a_hidden_character_far_behind_changes_nothing_here() -> None:
    """What announces a value, and its value, are one match: a second reading must not begin between the two."""
    text = (
        "password: [at]OSFODNN7EXAMPLpassword: [SECRET_PASSWORD][DEVICE_ID]eth0 00:1-+/.6(79+1111 //r/:_auth="
        "npm_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8password key is PHONE 021000021\uff42"
    )
    assert whole(text).startswith("password: [SECRET_PASSWORD] [SECRET_PASSWORD][DEVICE_ID]eth0 ")
    for size in (1, 4, 1000):
        assert streamed(in_chunks(text, size)) == whole(text)


def test_placeholders_in_the_text_stay() -> None:
    text = "password: [SECRET_PASSWORD], to [EMAIL] and [EMAIL:abcdefgh]."
    for size in (1, 4, 100):
        assert streamed(in_chunks(text, size)) == text


def test_columns_of_numbers_go_on() -> None:
    """No place cuts such a text; it is neither held nor masked for that."""
    text = "\n".join(f"{n % 97} {n % 89} {n % 83}" for n in range(1500))
    redactor = stream()
    held = 0
    said = ""
    for chunk in in_chunks(text, 4):
        said += redactor.feed(chunk)
        held = max(held, redactor.held)
    assert said + redactor.finish() == whole(text)
    assert held < 1024


def test_rows_of_digits_are_cut_as_in_the_whole_text() -> None:
    """Where one value ends and the next begins depends on all that stood before, not on what is kept of it."""
    text = "".join("1 2 " * count + "1 " for count in (29, 31, 7, 21, 37, 36))
    assert "[PAYMENT_CARD]" in whole(text)
    for size in (1, 4, 50, len(text)):
        assert streamed(in_chunks(text, size)) == whole(text)


CUT = "pwd=" + "aB3" * 84 + "cd"
GOES_OVER_THE_CUT = "aB3" * 16 + ")key=" + "live_" + "9bbc471fb3be24a0b80316f688d3e481" + " ok"


@pytest.mark.parametrize(("since", "is_told"), [(0, True), (BUILT_IN.behind, False)])
def test_no_value_begins_where_a_text_was_cut(since: int, is_told: bool) -> None:
    """In the whole text, something may stand before it that it must not follow: the first characters do not say."""
    assert len(CUT) == REACH + BUILT_IN.behind
    look = Look(Looker(BUILT_IN, ()), CUT, 1024, lambda span, _: f"[{span.rule}]", is_careful=False, since=since)
    said = "".join([out.said for outs in look.feed(GOES_OVER_THE_CUT) for out in outs])
    said += "".join([out.said for out in look.finish()])
    assert ("[password-assignment]" in said) is is_told
    assert is_told or said.startswith("aB3" * 16 + ")key=[")


def test_what_is_kept_can_be_looked_back_at() -> None:
    """Before the characters that may announce a value, those are kept that have a say in what they announce."""
    redactor = stream()
    bases = set()
    for chunk in in_chunks("The answer is forty-two, and bob@example.org knows it. " * 80, 4):
        redactor.feed(chunk)
        for look in redactor._looks:
            if look.base > 0:
                bases.add(look.base)
                assert look._since == look.base + BUILT_IN.behind
                assert look._since <= look.let_go - REACH
    assert len(bases) > 4
    assert redactor._since == BUILT_IN.behind
    assert len(redactor._shown) == REACH + BUILT_IN.behind


def test_what_goes_through_a_placeholder_is_noted_once() -> None:
    """Each escape has the text read in two ways, which know the same of what stood before."""
    reading = Reading(BUILT_IN, 0)
    most = 0
    meetings, was_plain = 0, True
    for char in ("key=abcd" * 4 + "a%41b") * 9:
        reading.feed(char)
        meetings += reading.is_plain and not was_plain
        was_plain = reading.is_plain
        noted = reading.plain.resisting
        assert len(noted) == len(set(noted))
        most = max(most, len(noted))
    assert meetings > 3
    assert 1 < most < 8


@pytest.mark.parametrize("before", ["1 ", "2 1 1 "])
def test_rows_of_digits_with_an_escape_near_are_cut_as_in_the_whole_text(before: str) -> None:
    """Also as a reader sees them: however much of a stream's text is kept, or is looked at around the escape."""
    text = before + "1 2 " * 400 + "1 1 2 " * 3 + "1 2 " * 9 + "BOB\\u0040"
    assert "[PAYMENT_CARD]" in whole(text)
    for size in (1, 4, 50, len(text)):
        assert streamed(in_chunks(text, size)) == whole(text)


def test_hash_needs_its_key() -> None:
    with pytest.raises(ValueError, match="hash_key"):
        StreamRedactor((rule("EMAIL", Action.HASH),))


def test_nothing_comes_after_the_end() -> None:
    redactor = stream()
    redactor.finish()
    with pytest.raises(ValueError, match="end"):
        redactor.feed("x")


def test_a_stream_keeps_little() -> None:
    """Of a long text, what is held and what has a say in it: not what went on."""
    redactor = stream()
    for chunk in in_chunks("The answer is forty-two, and bob@example.org knows it. " * 400, 4):
        redactor.feed(chunk)
    assert sum(sys.getsizeof(look._text) for look in redactor._looks) < 8 * REACH
    assert len(redactor._shown) <= REACH + BUILT_IN.behind


def test_far_words_have_no_say() -> None:
    """What a look keeps before a value is enough for every rule: one whose anchor may stand further away than that holds
    the anchor in the value itself."""
    hits = {
        rule_.id: [s for pack in PACKS for s in pack.samples if s.rule == rule_.id and s.found and not s.key]
        for rule_ in RULES
    }
    for one in RULES:
        if one.after + one.lookbehind + 64 > REACH:
            for sample in hits[one.id]:
                assert any(
                    m for m in one.pattern.finditer(sample.text) if __import__("re").search(one.anchor, m.group())
                ), one.id


@pytest.mark.parametrize("limit", [40, 1024])
def test_when_it_is_asked_what_was_taken_out_changes_nothing(limit: int) -> None:
    """What is settled is told as it was: also of values in values, and of what is withheld."""
    text = "".join(
        [f"{one} " for one in EXAMPLES[::9]] + ["-----BEGIN PRIVATE KEY----- bob@example.org " * 3, "a" * 200]
    )
    often, once = stream(limit=limit), stream(limit=limit)
    for chunk in in_chunks(text, 50):
        often.feed(chunk)
        once.feed(chunk)
        assert len(often.removals) <= often.removal_count
    often.finish()
    once.finish()
    assert often.removals == once.removals
