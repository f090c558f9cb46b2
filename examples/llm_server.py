"""A server on this machine that speaks OpenAI's API and answers by rules: the text stage without a key or a model.

    python examples/llm_server.py --port 8123 --faults 0.1
    python examples/llm_server.py --model HuggingFaceTB/SmolLM2-135M-Instruct
    ip2p dataset triples --writer openai --base-url http://127.0.0.1:8123/v1 --captions examples/captions.txt

It knows chat completions, moderations, files and batches, and goes wrong now and then in all the ways that real
servers do, if it is told to.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from ip2p.data_gen.writers.rules.english import english_edits

MODEL = "rules-by-wire"
Request = dict[str, Any]


class Reply(NamedTuple):
    """What the server sends: status, body and headers; after a delay in seconds, or not at all."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = {}
    delay: float = 0.0
    drop: bool = False


Script = Callable[[Request], Reply]


def completion(content: str | None, *, finish: str = "stop", refusal: str | None = None, read: int = 300) -> Reply:
    """An answer of the usual shape; `read` are the tokens of the question."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    written = len(content or "") // 4
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(body))


def failure(status: int, message: str, code: str = "", **headers: str) -> Reply:
    """An error of the usual shape; underscores in the names of headers become hyphens."""
    error = {"message": message, "type": "error", "param": None, "code": code or None}
    return Reply(status, json.dumps({"error": error}), {name.replace("_", "-"): text for name, text in headers.items()})


def asked(request: Request) -> dict[str, Any]:
    """The last question in a request: a caption and a count."""
    question: dict[str, Any] = json.loads(request["messages"][-1]["content"])
    return question


def by_rules(request: Request) -> Reply:
    """Edits that rules know for the caption; another seed asks for another one."""
    question = asked(request)
    rng = random.Random(f"{question['caption']} {request.get('seed')}")
    drafts = english_edits(question["caption"], rng) or english_edits(f"a picture of {question['caption']}", rng)
    chosen = rng.sample(drafts, min(question["count"], len(drafts)))
    edits = [
        {"instruction": each.instruction, "edited_caption": each.edited_caption, "kind": each.kind} for each in chosen
    ]
    return completion(json.dumps({"edits": edits}, ensure_ascii=False), read=len(json.dumps(request)) // 4)


def by_model(source: str) -> Script:
    """What a language model on this machine answers, one question at a time; it knows no form of answer but text.

    Args:
        source: folder, hub id, or GGUF file.
    """
    import torch

    from ip2p.data_gen.writers.local.writer import load_language_model as load_language

    language, lock = load_language(source, "cpu"), threading.Lock()

    def answer(request: Request) -> Reply:
        tokens = torch.tensor([language.encode(request["messages"])])
        most = int(request.get("max_tokens", 200))
        with lock, torch.inference_mode():
            torch.manual_seed(request.get("seed", 0))
            whole = language.model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=most, do_sample=True,
                temperature=request.get("temperature", 0.7), eos_token_id=list(language.ends),
                pad_token_id=language.ends[0],
            )  # fmt: skip
        written = whole[0, tokens.shape[1] :]
        text = language.tokenizer.decode(written, skip_special_tokens=True)
        finish = "stop" if written[-1] in language.ends else "length"
        return completion(text, finish=finish, read=tokens.shape[1])

    return answer


FAULTS: tuple[Reply, ...] = (
    failure(429, "slow down", "rate_limit_exceeded", retry_after_ms="20"),
    failure(500, "oops"),
    Reply(503, "<html><body>Service Unavailable</body></html>"),
    failure(408, "too slow"),
    failure(409, "locked"),
    Reply(drop=True),
    Reply(body="<html>"),
    Reply(body=""),
    Reply(body='{"id": "1", "object": "chat.completion"}'),
    Reply(body='{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'),
    completion('{"edits": [{"instruction": "make'),
    completion("Sure! I would make it winter."),
    completion('{"edits": [{"instruction": "make it winter"}]}'),
    completion('{"edits": [{"instruction": "make it wi', finish="length"),
    completion(None),
)
"""Of a kind that passes: the same question asked again gets an answer."""


def with_faults(share: float, seed: int, script: Script = by_rules) -> Script:
    """A script that answers with one of the faults instead, at random."""
    rng, lock = random.Random(seed), threading.Lock()

    def answer(request: Request) -> Reply:
        with lock:
            fault = rng.choice(FAULTS) if rng.random() < share else None
        return fault or script(request)

    return answer


class Server(ThreadingHTTPServer):
    """Answers chat completions as its script says, and remembers what it was asked.

    Args:
        port: to listen on; 0 for a free one.
        script: from request to reply.

    Attributes:
        requests: all chat requests, with the "authorization" header.
        in_flight, most_in_flight: chat requests at a time.
        batch_share: share of a batch's questions that come back; the others are missing.
        batch_polls: looks at a batch before it has ended.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0, script: Script = by_rules) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.script = script
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.in_flight = self.most_in_flight = 0
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.batch_share, self.batch_polls, self.batch_status = 1.0, 1, "completed"
        self.models, self.shutdown_date = [MODEL], ""
        self.flagged: Callable[[str], bool] = lambda text: "forbidden" in text

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of those who hang up."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ValueError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """For base_url."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Models, a batch, all batches, or the content of a file."""
        parts = self.path.partition("?")[0].removeprefix("/v1/").split("/")
        match parts:
            case ["models"]:
                data = [{"id": name, "object": "model", "created": 1, "owned_by": "me"} for name in self.server.models]
                self._send(Reply(body=json.dumps({"object": "list", "data": data})))
            case ["models", name] if name in self.server.models:
                about = {"id": name, "object": "model", "created": 1, "owned_by": "me"}
                self._send(Reply(body=json.dumps(about | {"shutdown_date": self.server.shutdown_date})))
            case ["batches"]:
                self._send(Reply(body=json.dumps({"object": "list", "data": list(self.server.batches.values())})))
            case ["batches", name] if name in self.server.batches:
                self._send(Reply(body=json.dumps(self._look(self.server.batches[name]))))
            case ["files", name, "content"] if name in self.server.files:
                self._send(Reply(body=self.server.files[name]))
            case _:
                self._send(failure(404, f"no {self.path}"))

    def do_POST(self) -> None:
        """A chat completion, a moderation, a file, or a batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path.removeprefix("/v1/"):
            case "chat/completions":
                self._chat(json.loads(body))
            case "moderations":
                texts = json.loads(body)["input"]
                results = [{"flagged": self.server.flagged(text), "categories": {}} for text in texts]
                self._send(Reply(body=json.dumps({"id": "1", "model": "m", "results": results})))
            case "files":
                start, name = body.index(b'{"custom_id"'), f"file-{len(self.server.files) + 1}"
                self.server.files[name] = body[start : body.index(b"\n--", start)].decode()
                about = {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "questions.jsonl"}
                self._send(Reply(body=json.dumps(about | {"purpose": "batch", "status": "processed"})))
            case "batches":
                self._send(Reply(body=json.dumps(self._begin(json.loads(body)))))
            case _:
                self._send(failure(404, f"no {self.path}"))

    def _chat(self, request: Request) -> None:
        server = self.server
        with server.lock:
            server.requests.append(request | {"authorization": self.headers["Authorization"]})
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            reply = server.script(request)
            time.sleep(reply.delay)
            self._send(reply)
        finally:
            with server.lock:
                server.in_flight -= 1

    def _begin(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """A batch that will have ended after some looks at it."""
        name = f"batch-{len(self.server.batches) + 1}"
        begun = {
            "id": name, "object": "batch", "endpoint": wanted["endpoint"], "completion_window": "24h", "created_at": 1,
            "input_file_id": wanted["input_file_id"], "status": "validating", "metadata": wanted.get("metadata"),
            "questions": self.server.files[wanted["input_file_id"]], "looks": 0,
        }  # fmt: skip
        self.server.batches[name] = begun
        return begun

    def _look(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch one look later."""
        batch["looks"] += 1
        batch["status"] = "in_progress"
        if batch["looks"] > self.server.batch_polls:
            batch["status"] = self.server.batch_status
            lines = [json.loads(line) for line in batch["questions"].strip().split("\n")]
            kept = lines[: round(len(lines) * self.server.batch_share)][::-1]
            output = f"{batch['id']}-output"
            self.server.files[output] = "\n".join(json.dumps(self._answered(line)) for line in kept)
            batch["output_file_id"] = output if kept else None
        return batch

    def _answered(self, line: dict[str, Any]) -> dict[str, Any]:
        reply = self.server.script(line["body"])
        with self.server.lock:
            self.server.requests.append(line["body"])
        response = {"status_code": reply.status, "body": json.loads(reply.body)}
        return {"custom_id": line["custom_id"], "response": response}

    def _send(self, reply: Reply) -> None:
        if reply.drop:
            self.close_connection = True
            self.connection.close()
            return
        data = reply.body.encode()
        self.send_response(reply.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} | reply.headers
        for name, text in headers.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8123, help="default: 8123")
    parser.add_argument("--faults", type=float, default=0.0, help="share of answers that go wrong (default: 0)")
    parser.add_argument("--model", help="language model that answers instead of rules: folder, hub id or GGUF file")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds before each answer (default: 0.1)")
    parsed = parser.parse_args()
    script = with_faults(parsed.faults, 0, by_model(parsed.model) if parsed.model else by_rules)
    with Server(parsed.port, lambda request: script(request)._replace(delay=parsed.delay)) as server:
        print(f"listening at {server.url}; stop with Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
