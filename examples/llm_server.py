"""A local server with OpenAI's API that answers by rules, to try the text stage without a key or a model.

    python examples/llm_server.py --port 8123 --faults 0.1
    python examples/llm_server.py --model HuggingFaceTB/SmolLM2-135M-Instruct
    ip2p dataset triples --writer openai --base-url http://127.0.0.1:8123/v1 --captions examples/captions.txt

It supports chat completions, moderations, files and batches. With --faults it fails at random, in the ways that real
servers do.
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


class ServerReply(NamedTuple):
    """A response of the server.

    Attributes:
        status: HTTP status.
        body: text of the body.
        headers: further headers.
        delay: seconds before the response.
        drop: whether to close the connection without a response.
    """

    status: int = 200
    body: str = ""
    headers: dict[str, str] = {}
    delay: float = 0.0
    drop: bool = False


Script = Callable[[Request], ServerReply]


def completion(
    content: str | None,
    *,
    finish: str = "stop",
    refusal: str | None = None,
    read: int = 300,
    thoughts: str = "",
    reasoning: int = 0,
) -> ServerReply:
    """Make a chat completion.

    Args:
        content: text of the answer; None for none.
        finish: finish reason.
        refusal: text of a refusal; None for none.
        read: tokens of the question.
        thoughts: thoughts of the model, apart from its answer.
        reasoning: tokens of reasoning among those written.
    """
    message = {"role": "assistant", "content": content, "refusal": refusal}
    message |= {"reasoning_content": thoughts} if thoughts else {}
    written = len(content or "") // 4 + reasoning
    details = {"completion_tokens_details": {"reasoning_tokens": reasoning}} if reasoning else {}
    usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **details}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}
    return ServerReply(body=json.dumps(body))


def failure(status: int, message: str, code: str = "", **headers: str) -> ServerReply:
    """Make an error response.

    Args:
        status: HTTP status.
        message: message of the error.
        code: code of the error.
        headers: headers, whose names get hyphens for underscores.
    """
    error = {"message": message, "type": "error", "param": None, "code": code or None}
    return ServerReply(
        status, json.dumps({"error": error}), {name.replace("_", "-"): text for name, text in headers.items()}
    )


def read_question(request: Request) -> dict[str, Any]:
    """Return the last question in a request: a caption and a count."""
    question: dict[str, Any] = json.loads(request["messages"][-1]["content"])
    return question


def answer_by_rules(request: Request) -> ServerReply:
    """Answer a request by rules; another seed gives another edit."""
    question = read_question(request)
    rng = random.Random(f"{question['caption']} {request.get('seed')}")
    drafts = english_edits(question["caption"], rng) or english_edits(f"a picture of {question['caption']}", rng)
    chosen = rng.sample(drafts, min(question["count"], len(drafts)))
    edits = [
        {"instruction": each.instruction, "edited_caption": each.edited_caption, "kind": each.kind} for each in chosen
    ]
    return completion(json.dumps({"edits": edits}, ensure_ascii=False), read=len(json.dumps(request)) // 4)


def make_model_script(source: str) -> Script:
    """Make a script that answers by a local language model, one request at a time and in plain text only.

    Args:
        source: folder or hub id of the model, or a GGUF file.
    """
    import torch

    from ip2p.data_gen.writers.local.language_model import load_language_model as load_language

    language, lock = load_language(source, "cpu"), threading.Lock()

    def answer(request: Request) -> ServerReply:
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


FAULTS: tuple[ServerReply, ...] = (
    failure(200, "Provider returned error", "429"),
    failure(429, "slow down", "rate_limit_exceeded", retry_after_ms="20"),
    failure(500, "oops"),
    ServerReply(503, "<html><body>Service Unavailable</body></html>"),
    failure(408, "too slow"),
    failure(409, "locked"),
    ServerReply(drop=True),
    ServerReply(body="<html>"),
    ServerReply(body=""),
    ServerReply(body='{"id": "1", "object": "chat.completion"}'),
    ServerReply(body='{"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}'),
    completion('{"edits": [{"instruction": "make'),
    completion("Sure! I would make it winter."),
    completion('{"edits": [{"instruction": "make it winter"}]}'),
    completion('{"edits": [{"instruction": "make it wi', finish="length"),
    completion(None),
)
"""Transient faults: the same question gets an answer when it is asked again."""


def make_faulty_script(share: float, seed: int, script: Script = answer_by_rules) -> Script:
    """Make a script that fails at random.

    Args:
        share: share of the requests that fail, 0 to 1.
        seed: seed of the faults.
        script: script that answers the other requests.
    """
    rng, lock = random.Random(seed), threading.Lock()

    def answer(request: Request) -> ServerReply:
        with lock:
            fault = rng.choice(FAULTS) if rng.random() < share else None
        return fault or script(request)

    return answer


class Server(ThreadingHTTPServer):
    """Answers chat completions by a script, and records the requests.

    Args:
        port: port to listen on; 0 for a free one.
        script: function that turns a request into a response.

    Attributes:
        requests: all chat requests, with the "authorization" header.
        in_flight: number of chat requests in progress.
        most_in_flight: largest number of chat requests in progress so far.
        batch_share: share of a batch's questions that get an answer; the others are missing.
        batch_polls: number of polls before a batch has ended.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0, script: Script = answer_by_rules) -> None:
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
        """Ignore clients that close the connection."""
        if not isinstance(sys.exc_info()[1], ConnectionError | ValueError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Address of the server, for base_url."""
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    """Handles one request."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send models, a batch, all batches, or the content of a file."""
        parts = self.path.partition("?")[0].removeprefix("/v1/").split("/")
        match parts:
            case ["models"]:
                data = [{"id": name, "object": "model", "created": 1, "owned_by": "me"} for name in self.server.models]
                self._send(ServerReply(body=json.dumps({"object": "list", "data": data})))
            case ["models", name] if name in self.server.models:
                about = {"id": name, "object": "model", "created": 1, "owned_by": "me"}
                self._send(ServerReply(body=json.dumps(about | {"shutdown_date": self.server.shutdown_date})))
            case ["batches"]:
                self._send(ServerReply(body=json.dumps({"object": "list", "data": list(self.server.batches.values())})))
            case ["batches", name] if name in self.server.batches:
                self._send(ServerReply(body=json.dumps(self._poll_batch(self.server.batches[name]))))
            case ["files", name, "content"] if name in self.server.files:
                self._send(ServerReply(body=self.server.files[name]))
            case _:
                self._send(failure(404, f"no {self.path}"))

    def do_POST(self) -> None:
        """Handle a chat completion, a moderation, an upload, or a new batch."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match self.path.removeprefix("/v1/"):
            case "chat/completions":
                self._chat(json.loads(body))
            case "moderations":
                texts = json.loads(body)["input"]
                results = [{"flagged": self.server.flagged(text), "categories": {}} for text in texts]
                self._send(ServerReply(body=json.dumps({"id": "1", "model": "m", "results": results})))
            case "files":
                start, name = body.index(b'{"custom_id"'), f"file-{len(self.server.files) + 1}"
                self.server.files[name] = body[start : body.index(b"\n--", start)].decode()
                about = {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "questions.jsonl"}
                self._send(ServerReply(body=json.dumps(about | {"purpose": "batch", "status": "processed"})))
            case "batches":
                self._send(ServerReply(body=json.dumps(self._start_batch(json.loads(body)))))
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

    def _start_batch(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Start a batch, which ends after some polls."""
        name = f"batch-{len(self.server.batches) + 1}"
        begun = {
            "id": name, "object": "batch", "endpoint": wanted["endpoint"], "completion_window": "24h", "created_at": 1,
            "input_file_id": wanted["input_file_id"], "status": "validating", "metadata": wanted.get("metadata"),
            "questions": self.server.files[wanted["input_file_id"]], "looks": 0,
        }  # fmt: skip
        self.server.batches[name] = begun
        return begun

    def _poll_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Poll a batch."""
        batch["looks"] += 1
        batch["status"] = "in_progress"
        if batch["looks"] > self.server.batch_polls:
            batch["status"] = self.server.batch_status
            lines = [json.loads(line) for line in batch["questions"].strip().split("\n")]
            kept = lines[: round(len(lines) * self.server.batch_share)][::-1]
            output = f"{batch['id']}-output"
            self.server.files[output] = "\n".join(json.dumps(self._answer_line(line)) for line in kept)
            batch["output_file_id"] = output if kept else None
        return batch

    def _answer_line(self, line: dict[str, Any]) -> dict[str, Any]:
        reply = self.server.script(line["body"])
        with self.server.lock:
            self.server.requests.append(line["body"])
        response = {"status_code": reply.status, "body": json.loads(reply.body)}
        return {"custom_id": line["custom_id"], "response": response}

    def _send(self, reply: ServerReply) -> None:
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
        """Log nothing."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8123, help="port to listen on (default: 8123)")
    parser.add_argument("--faults", type=float, default=0.0, help="share of requests that fail (default: 0)")
    parser.add_argument("--model", help="language model that answers instead of rules: folder, hub id or GGUF file")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds before each answer (default: 0.1)")
    parsed = parser.parse_args()
    script = make_faulty_script(parsed.faults, 0, make_model_script(parsed.model) if parsed.model else answer_by_rules)
    with Server(parsed.port, lambda request: script(request)._replace(delay=parsed.delay)) as server:
        print(f"listening at {server.url}; stop with Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
