"""Must show 2: the official clients work with only base URL and key changed; refusals are their own typed errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anthropic
import openai
import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway

SAYS_AN_ADDRESS = 'root ::= "Write to ada.lovelace" "@" "example.net now."'
EXPECTED = "Write to [EMAIL] now."


@pytest.fixture
def chat_client(real: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{real.stack.gateway}/v1", api_key=real.analyst, max_retries=0)


@pytest.fixture
def messages_client(real: Gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=real.stack.gateway, api_key=real.analyst, max_retries=0)


def test_openai_chat(chat_client: openai.OpenAI) -> None:
    answer = chat_client.chat.completions.create(
        model="demo",
        max_tokens=60,
        messages=[{"role": "user", "content": "I am bob@example.org"}],
        extra_body={"grammar": SAYS_AN_ADDRESS},
    )
    assert answer.choices[0].message.content == EXPECTED
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


def test_openai_chat_stream(chat_client: openai.OpenAI) -> None:
    stream = chat_client.chat.completions.create(
        model="demo",
        max_tokens=60,
        stream=True,
        messages=[{"role": "user", "content": "hello"}],
        extra_body={"grammar": SAYS_AN_ADDRESS},
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert said == EXPECTED


def test_openai_embeddings(chat_client: openai.OpenAI) -> None:
    found = chat_client.embeddings.create(model="demo", input=["hello", "world"])
    assert len(found.data) == 2
    assert math.isclose(sum(x * x for x in found.data[0].embedding), 1.0, rel_tol=0.01)


def test_openai_models(chat_client: openai.OpenAI) -> None:
    assert "demo" in [model.id for model in chat_client.models.list()]


def test_openai_errors(real: Gateway, chat_client: openai.OpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError) as denied:
        chat_client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "hello"}])
    assert denied.value.code == "denied"
    stranger = openai.OpenAI(base_url=f"{real.stack.gateway}/v1", api_key="nonsense", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_anthropic_messages(messages_client: anthropic.Anthropic) -> None:
    answer = messages_client.messages.create(
        model="demo", max_tokens=30, messages=[{"role": "user", "content": "I am bob@example.org"}]
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text
    assert answer.usage.output_tokens > 0


def test_anthropic_messages_stream(messages_client: anthropic.Anthropic) -> None:
    with messages_client.messages.stream(
        model="demo", max_tokens=30, messages=[{"role": "user", "content": "hello"}]
    ) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert said
    assert final.content[0].type == "text"
    assert final.content[0].text == said


def test_anthropic_beta(messages_client: anthropic.Anthropic) -> None:
    """It sends `?beta=true` and the features by header."""
    answer = messages_client.beta.messages.create(
        model="demo", max_tokens=5, messages=[{"role": "user", "content": "hello"}], betas=["prompt-caching-2024-07-31"]
    )
    assert answer.usage.output_tokens > 0
    without = messages_client.beta.messages.create(
        model="demo", max_tokens=5, messages=[{"role": "user", "content": "hello"}], betas=[]
    )
    assert without.usage.output_tokens > 0


def test_request_id_is_the_exchanges(chat_client: openai.OpenAI) -> None:
    """What OpenAI's client shows where something went wrong is what the evidence is found by."""
    raw = chat_client.models.with_raw_response.list()
    assert raw.headers["x-request-id"] == raw.headers["x-affidavit-exchange"] == raw.request_id


def test_anthropic_errors(real: Gateway, messages_client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.PermissionDeniedError):
        messages_client.messages.create(model="gpt-9", max_tokens=5, messages=[{"role": "user", "content": "hello"}])
    stranger = anthropic.Anthropic(base_url=real.stack.gateway, api_key="nonsense", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as refused:
        stranger.messages.create(model="demo", max_tokens=5, messages=[{"role": "user", "content": "hello"}])
    assert refused.value.request_id == refused.value.response.headers["x-affidavit-exchange"], "what people can report"
