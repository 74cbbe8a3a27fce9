"""Pages ask no other host and show mistakes as messages."""

import asyncio
import sys
import types

import pytest

from prevalent.runtime.web import POLICY, OwnSourcesOnly, import_gradio, told


class Message(Exception):
    def __init__(self, text, print_exception):
        super().__init__(text)


GRADIO = types.SimpleNamespace(Error=Message)


def test_a_mistake_becomes_a_message_without_markup():
    def fail(text):
        raise ValueError(f"{text} is nothing")

    with pytest.raises(Message, match=r"&lt;b&gt; is nothing"):
        told(GRADIO, fail)("<b>")
    assert told(GRADIO, len)("abc") == 3


def test_our_own_mistake_stays_what_it_is():
    def fail():
        raise KeyError("ours")

    with pytest.raises(KeyError):
        told(GRADIO, fail)()


def test_every_answer_forbids_other_hosts():
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body"})

    async def send(message):
        sent.append(message)

    asyncio.run(OwnSourcesOnly(app)({}, None, send))
    policy = (b"content-security-policy", POLICY.encode())
    assert sent[0]["headers"] == [(b"a", b"b"), policy]
    assert sent[1] == {"type": "http.response.body"}


@pytest.mark.parametrize(
    ("others", "needed"),
    [((), "gradio, which is an extra"), (("json",), "gradio and json, which are an extra")],
)
def test_a_missing_gradio_names_the_extra(monkeypatch, others, needed):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ImportError, match=rf"--serve needs {needed}: pip install 'a\[demo\]'"):
        import_gradio("a[demo]", *others)
