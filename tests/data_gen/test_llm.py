"""The language model as the writer, against a loopback server that answers well, badly, or not at all."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ip2p.config import Triples
from ip2p.data_gen import llm
from ip2p.data_gen.llm import ModelWriter
from ip2p.errors import ConfigError, WriterError
from ip2p.records import Caption, Reason, content_id

KEY = "sk-CANARY-0123456789"
EDIT = {"instruction": "make it night", "edited_caption": "a barn at night", "kind": "time"}

Answer = Callable[[dict[str, Any]], tuple[int, str]]


def completion(content: str | None, finish: str = "stop") -> tuple[int, str]:
    """A reply of the server's usual shape."""
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return 200, json.dumps(body)


def good(*edits: dict[str, Any]) -> tuple[int, str]:
    """A reply with edits."""
    return completion(json.dumps({"edits": list(edits or (EDIT,))}))


class Server(ThreadingHTTPServer):
    """Answers as `answer` says, and remembers what it was asked."""

    answer: Answer
    asked: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_POST(self) -> None:
        """Answer it."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request["authorization"] = self.headers["Authorization"]
        self.server.asked.append(request)
        status, body = self.server.answer(request)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of its own, and no waiting between tries."""
    monkeypatch.setattr(llm, "RETRIES", 0)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked, running.answer = [], lambda _: good()
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def writer(server: Server, parallel: int = 1) -> ModelWriter:
    """A writer that asks the server."""
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return ModelWriter(Triples(writer="openai", model="m", base_url=url, parallel=parallel))


def captions(*texts: str) -> list[Caption]:
    """Rows of texts."""
    return [Caption(id=content_id(text), text=text, source="test") for text in texts]


def test_a_good_reply_becomes_edits(server: Server) -> None:
    ((draft,),) = writer(server).write(captions("a barn"), 1)
    assert (draft.instruction, draft.edited_caption, draft.kind) == tuple(EDIT.values())
    (request,) = server.asked
    assert request["model"] == "m" and request["response_format"] == {"type": "json_object"}
    assert json.loads(request["messages"][1]["content"]) == {"caption": "a barn", "count": 1}
    assert request["authorization"] == f"Bearer {KEY}"


def test_replies_stand_in_the_order_of_the_captions(server: Server) -> None:
    def answer(request: dict[str, Any]) -> tuple[int, str]:
        caption = json.loads(request["messages"][1]["content"])["caption"]
        return good(EDIT | {"edited_caption": f"{caption} at night"})

    server.answer = answer
    texts = [f"barn {number}" for number in range(20)]
    drafts = writer(server, parallel=8).write(captions(*texts), 1)
    assert [each.edited_caption for (each,) in drafts] == [f"{text} at night" for text in texts]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion(f"```json\n{json.dumps({'edits': [EDIT]})}\n```"), Reason.OK),
        (good(EDIT | {"kind": "a surprise", "more": 1}), Reason.OK),
        (completion("I would make it night."), Reason.BAD_REPLY),
        (completion('{"edits": [{"instruction": "make it'), Reason.BAD_REPLY),
        (completion('{"edits": []}'), Reason.BAD_REPLY),
        (completion('{"edits": [{"instruction": 3}]}'), Reason.BAD_REPLY),
        (completion(None), Reason.BAD_REPLY),
        (completion(json.dumps({"edits": [EDIT]}), "length"), Reason.BAD_REPLY),
        (completion(json.dumps({"edits": [EDIT]}), "content_filter"), Reason.BAD_REPLY),
        ((200, json.dumps({"id": "1", "choices": []})), Reason.BAD_REPLY),
        ((200, json.dumps({"id": "1"})), Reason.BAD_REPLY),
        ((200, "<html>"), Reason.WRITER_ERROR),
        ((200, ""), Reason.WRITER_ERROR),
        ((400, json.dumps({"error": {"message": "too long"}})), Reason.WRITER_ERROR),
        ((422, json.dumps({"error": {"message": "not that"}})), Reason.WRITER_ERROR),
    ],
)
def test_a_bad_reply_refuses_its_caption_alone(server: Server, reply: tuple[int, str], reason: Reason) -> None:
    server.answer = lambda request: reply if "bad" in request["messages"][1]["content"] else good()
    drafts = writer(server).write(captions("a barn", "bad", "a castle"), 1)
    assert [[each.reason for each in few] for few in drafts] == [[Reason.OK], [reason], [Reason.OK]]
    assert drafts[1][0].kind in llm.KINDS


@pytest.mark.parametrize(
    ("status", "told", "remedy"),
    [
        (401, "refuses the key", "OPENAI_API_KEY"),
        (403, "refuses the model m", "triples.model"),
        (404, "refuses the model m", "triples.model"),
        (429, "takes no more requests", "limits and credit"),
        (503, "cannot be reached or fails", "it goes on from here"),
    ],
)
def test_a_bad_server_stops_the_run_and_no_key_is_shown(server: Server, status: int, told: str, remedy: str) -> None:
    server.answer = lambda _: (status, json.dumps({"error": {"message": f"what is {KEY} and sk-other-123456?"}}))
    with pytest.raises(WriterError) as caught:
        writer(server).write(captions("a barn"), 1)
    assert told in str(caught.value) and remedy in str(caught.value)
    assert KEY not in repr(caught.value) and "sk-other" not in repr(caught.value)


def test_a_server_without_json_mode_is_asked_without(server: Server) -> None:
    refusal = 400, json.dumps({"error": {"message": "unknown parameter: response_format"}})
    server.answer = lambda request: refusal if "response_format" in request else good()
    drafts = writer(server).write(captions("a barn", "a castle"), 1)
    assert [few[0].reason for few in drafts] == [Reason.OK, Reason.OK]
    assert len(server.asked) == 3


def test_no_more_edits_than_asked_for(server: Server) -> None:
    server.answer = lambda _: good(EDIT, EDIT | {"kind": "season"}, EDIT)
    assert len(writer(server).write(captions("a barn"), 2)[0]) == 2


def test_an_unreachable_server_is_told(server: Server) -> None:
    asked = writer(server)
    server.server_close()
    asked._client = asked._client.with_options(base_url="http://127.0.0.1:9/v1")
    with pytest.raises(WriterError, match="cannot be reached"):
        asked.write(captions("a barn"), 1)


def test_a_missing_model_or_key_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="has no model"):
        ModelWriter(Triples(writer="openai"))
    with pytest.raises(WriterError, match="Set OPENAI_API_KEY"):
        ModelWriter(Triples(writer="openai", model="m"))
    assert ModelWriter(Triples(writer="openai", model="m", base_url="http://127.0.0.1:9/v1")).name == "m"
