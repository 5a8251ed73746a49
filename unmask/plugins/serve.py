"""A saved labeler over HTTP: `unmask serve FOLDER`.

    POST /predict   {"inputs": "text" | ["text", ...] | [["word", ...], ...],
                     "threshold": 0.5, "format": "hf"}      -> {"results": ...}
    GET  /health    what is served, and how much is waiting
    GET  /metrics   counters since the start, in the text format of Prometheus

Answers 413 to bodies over the limit before they are read, 422 to what is no such request, and 429
when too much is waiting. What waits for a client that hangs up is never labelled. No code is ever
loaded from the folder: it holds tensors and JSON. There is no authentication; put it behind
something that has.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import unmask
from unmask.formats import convert
from unmask.model import UnmaskedForTokenClassification
from unmask.plugins.batching import MicroBatcher, QueueFull

KEEP_ALIVE_SECONDS = 75
"""Idle connections live longer here than in clients (httpx: 5 s): one that is closed on this side
just as a client sends on it would lose that request."""


METRICS_TYPE = "text/plain; version=0.0.4"
CLIENT_CLOSED = 499
"""What nginx writes into its log for a client that hung up; nobody is there to read it."""


def _whole(text: str) -> str:
    """JSON can spell half a surrogate pair, which is no text."""
    text.encode()  # UnicodeEncodeError is a ValueError, which pydantic reports
    return text


Text = Annotated[str, AfterValidator(_whole)]
Word = Annotated[Text, StringConstraints(pattern=r"\S")]


@dataclass(frozen=True)
class Limits:
    """What a server takes on; see `unmask serve --help`."""

    max_body_bytes: int = 2**20
    max_waiting: int = 1024
    """Texts that may wait, over all requests."""
    max_batch: int = 32
    """Texts labelled together."""

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_waiting", "max_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class PredictRequest(BaseModel):
    """The body of POST /predict."""

    model_config = ConfigDict(extra="forbid")

    inputs: Text | list[Text] | list[list[Word]]
    threshold: float | None = Field(default=None, ge=0, le=1)
    format: Literal["unmask", "hf", "html", "spacy", "conll", "brat"] = "unmask"


def create_app(labeler: UnmaskedForTokenClassification, limits: Limits | None = None) -> FastAPI:
    """The ASGI application; the labeler's adapters are merged into its backbone.

    Raises:
        RuntimeError: when a layer does not see what the labeler's configuration says.
    """
    limits = limits or Limits()
    labeler.verify_mask().check()
    labeler.merge()

    def work(items: list[Any]) -> list[Any]:
        return labeler.predict(items, batch_size=limits.max_batch)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with MicroBatcher(work, limits.max_batch, limits.max_waiting) as batcher:
            app.state.batcher = batcher
            yield

    app = FastAPI(title="unmask", lifespan=lifespan)
    app.add_middleware(_BodyLimit, max_bytes=limits.max_body_bytes)
    app.add_exception_handler(RequestValidationError, _say_what_is_wrong)

    @app.post("/predict")
    async def predict(body: PredictRequest, request: Request) -> dict[str, Any]:
        is_single = isinstance(body.inputs, str)
        items = [body.inputs] if is_single else body.inputs
        if len(items) > limits.max_waiting:
            raise HTTPException(422, f"at most {limits.max_waiting} inputs in one request")
        try:
            found = await _while_connected(request, request.app.state.batcher.submit(items))
        except QueueFull:
            raise HTTPException(
                429, "too much is waiting; try again in a second", {"Retry-After": "1"}
            ) from None
        lowest = body.threshold or 0
        results = [
            convert(body.format, item, [span for span in spans if span["score"] >= lowest])  # pyright: ignore[reportArgumentType]
            for item, spans in zip(items, found, strict=True)
        ]
        return {"results": results[0] if is_single else results}

    @app.get("/health")
    async def health(request: Request) -> dict[str, Any]:
        return {
            "status": "ok",
            "model": labeler.loaded.weights.name,
            "unmask": labeler.configs[0].code,
            "labels": list(labeler.labels),
            "max_subtokens": labeler.max_subtokens,
            "version": unmask.__version__,
            "waiting": request.app.state.batcher.num_waiting,
        }

    @app.get("/metrics")
    async def metrics(request: Request) -> PlainTextResponse:
        return PlainTextResponse(_metrics(request.app.state.batcher), media_type=METRICS_TYPE)

    return app


async def _while_connected(request: Request, work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    """What `work` returns, given up when the client hangs up first."""
    answer = asyncio.ensure_future(work)
    hung_up = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((answer, hung_up), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(CLIENT_CLOSED, "the client has hung up")
        return answer.result()
    finally:
        answer.cancel()
        hung_up.cancel()


async def _hung_up(request: Request) -> None:
    """Return when the client is gone; its body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _metrics(batcher: MicroBatcher) -> str:
    totals = batcher.totals
    rows = (
        ("texts_labelled_total", "counter", "texts that were labelled", totals.labelled),
        ("texts_refused_total", "counter", "texts answered with 429", totals.refused),
        ("texts_failed_total", "counter", "texts on which the model failed", totals.failed),
        ("batches_total", "counter", "calls of the model", totals.batches),
        ("labelling_seconds_total", "counter", "seconds within the model", totals.seconds),
        ("texts_waiting", "gauge", "texts that wait now", batcher.num_waiting),
    )
    return "".join(
        f"# HELP unmask_{name} {text}\n# TYPE unmask_{name} {kind}\nunmask_{name} {value}\n"
        for name, kind, text, value in rows
    )


def take_port(host: str, port: int) -> socket.socket:
    """The address, taken but not listened on: clients are refused until `serve` is ready.

    Raises:
        ValueError: when it cannot be had.
    """
    taken = None
    try:
        if not 0 <= port < 2**16:  # else another port would be taken, without a word
            raise OSError("ports end at 65535")
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        if taken is not None:
            taken.close()
        raise ValueError(
            f"cannot serve on {host}:{port} ({error.strerror or error}); give another --port or "
            "--host"
        ) from None
    return taken


def serve(app: FastAPI, taken: socket.socket) -> None:
    """Serve on what `take_port` returned until interrupted."""
    settings = uvicorn.Config(app, log_level="warning", timeout_keep_alive=KEEP_ALIVE_SECONDS)
    with suppress(KeyboardInterrupt):  # the customary end
        uvicorn.Server(settings).run(sockets=[taken])


async def _say_what_is_wrong(request: Request, error: Exception) -> JSONResponse:
    """Places and reasons, without the input: it may be large, or no valid text."""
    assert isinstance(error, RequestValidationError)
    reasons = []
    for one in error.errors()[:5]:
        # Between the names stand types such as list[function-after[...]], one for each alternative.
        names = [str(part) for part in one["loc"] if "[" not in str(part)]
        reasons.append(f"{'.'.join(names)}: {one['msg']}")
    return JSONResponse({"detail": "; ".join(reasons)}, 422)


class _BodyLimit:
    """Reads the body itself, so that one without a length cannot be longer than allowed."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        body = None
        if not declared.isdigit() or int(declared) <= self.max_bytes:
            body = await self._read(receive)
        if body is None:
            message = f"the body is larger than {self.max_bytes} bytes; send less at once"
            await JSONResponse({"detail": message}, 413)(scope, receive, send)
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await self.app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, or None when it is too large."""
        parts, size = [], 0
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.max_bytes:
                return None
            if not message.get("more_body", False):
                return b"".join(parts)
