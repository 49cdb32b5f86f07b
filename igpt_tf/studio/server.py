"""The server: the page's files, and the answers to what the page asks."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from igpt_tf.errors import UserError, listed
from igpt_tf.storage.places import photo_folder
from igpt_tf.studio import pictures
from igpt_tf.studio.drawer import Drawer
from igpt_tf.studio.guard import OWN_HEADER, Guard
from igpt_tf.studio.line import FullError, Line
from igpt_tf.studio.orders import MOST_FILE_PIXELS, MOST_SCALE, Order, image_arrays, known_array, order_of, parse, whole
from igpt_tf.studio.worker import Worker

PAGE = Path(__file__).parent / "page"
NO_MEMORY = "expected more memory than there is: draw fewer candidates or particles"

Answer = Callable[["Studio", Request], Awaitable[Response]]


class Studio:
    """What the server knows: models, the photographs that come with the program, and who waits.

    Args:
        models: the first one is loaded first.
        program: how the user calls the program, for the commands that the page shows.

    Attributes:
        models: by name.
        line: where drawings wait.
        worker: computes.
    """

    def __init__(self, models: Sequence[Drawer], program: str = "igpt") -> None:
        self.models = {model.name: model for model in models}
        self.program = program
        self.photos = {path.name: path for path in sorted(photo_folder().glob("*.jpg"))}
        self.line, self.worker = Line(), Worker()

    def model(self, name: Any) -> Drawer:
        """The model of a name.

        Args:
            name: what a request says.

        Raises:
            UserError: if there is none.
        """
        if not isinstance(name, str) or name not in self.models:
            raise UserError(f"expected `model` as one of {listed(self.models)}, got {name!r}"[:300])
        return self.models[name]

    def places(self) -> list[dict[str, str]]:
        """The photographs' names, and their paths as a command names them."""
        here = Path.cwd()
        return [
            {"name": name, "path": str(path.relative_to(here) if path.is_relative_to(here) else path)}
            for name, path in self.photos.items()
        ]

    def warm_up(self) -> None:
        """Load the first model, and compile what a first drawing needs."""
        self.warm(next(iter(self.models.values())))

    def warm(self, model: Drawer) -> None:
        """Load a model and compile its programs, row by row, so that others are not kept waiting.

        Args:
            model: the model.
        """
        steps = model.warm_up()

        def step() -> None:
            for _ in itertools.islice(steps, 1):
                self.worker.submit(step)

        self.worker.submit(step)


def make_app(studio: Studio, hosts: Collection[str] | None, token: str | None = None) -> ASGIApp:
    """The application that answers requests.

    Args:
        studio: what it knows.
        hosts: as for `Guard`.
        token: as for `Guard`.
    """

    def route(path: str, answer: Answer, method: str = "POST") -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await answer(studio, request)
            except FullError as error:
                return _refuse(error, HTTPStatus.SERVICE_UNAVAILABLE)
            except UserError as error:
                return _refuse(error, HTTPStatus.BAD_REQUEST)
            except MemoryError:
                return _refuse(NO_MEMORY, HTTPStatus.SERVICE_UNAVAILABLE)

        return Route(path, endpoint, methods=[method])

    routes = [
        Route("/", lambda request: FileResponse(PAGE / "index.html")),
        route("/api/state", _state, "GET"),
        route("/api/photo/{name}", _photo, "GET"),
        route("/api/picture", _picture),
        route("/api/mask", _mask),
        route("/api/warm", _warm),
        route("/api/draw", _draw),
        route("/api/surprise", _surprise),
        route("/api/classify", _classify),
        route("/api/png", _png),
        route("/api/gif", _gif),
        route("/api/mask.png", _mask_png),
        Mount("/page", StaticFiles(directory=PAGE)),
    ]
    handlers: Any = {HTTPException: _http_error, Exception: _server_error}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), hosts, token)


async def _state(studio: Studio, request: Request) -> Response:
    models = [model.describe() for model in studio.models.values()]
    return JSONResponse({"models": models, "photos": studio.places(), "waiting": len(studio.line)})


async def _photo(studio: Studio, request: Request) -> Response:
    # The name is looked up among those that are known, and is no path.
    path = studio.photos.get(request.path_params["name"])
    if path is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    return FileResponse(path)


async def _picture(studio: Studio, request: Request) -> Response:
    model, data = studio.model(request.query_params.get("model")), await request.body()
    words = [request.query_params.get(name) for name in ("left", "top", "side")]
    try:
        left, top, side = (int(word or "") for word in words)
        crop = left, top, side
    except ValueError:
        if any(words):
            raise UserError(f"expected a crop as three whole numbers, got {words}"[:200]) from None
        crop = None
    return JSONResponse(await run_in_threadpool(pictures.open_picture, data, model, crop))


async def _mask(studio: Studio, request: Request) -> Response:
    model, data = studio.model(request.query_params.get("model")), await request.body()
    return JSONResponse(await run_in_threadpool(pictures.open_mask, data, model.n_px))


async def _draw(studio: Studio, request: Request) -> Response:
    fields = parse(await request.body())
    model = studio.model(fields.get("model"))
    order = order_of(fields, model.n_tokens, model.n_vocab)
    model.check(order)
    studio.line.check_room()
    return _Rows(_rows(studio, model, order, request.headers.get(OWN_HEADER, "")), media_type="application/x-ndjson")


class _Rows(StreamingResponse):
    """A streamed response that ends its generator when the browser is gone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rows = cast("AsyncGenerator[str]", self.body_iterator)
        async with contextlib.aclosing(rows):
            await super().__call__(scope, receive, send)


async def _rows(studio: Studio, model: Drawer, order: Order, client: str) -> AsyncGenerator[str]:
    """A line of JSON for each event; when the browser is gone, the drawing ends after its row."""
    steps, ticket = None, studio.line.join(client)
    try:
        while place := await ticket.moved():
            yield _line({"place": place})
        yield _line({"place": 0, "compiling": model.needs_compiling(order)})
        steps = model.draw(order, studio.program)
        try:
            while (event := await studio.worker.run(functools.partial(next, steps, None))) is not None:
                yield _line(event)
        except UserError as error:
            yield _line({"error": str(error)})
        except Exception as error:
            yield _line({"error": _problem(error)})
    finally:
        if steps is not None:
            # After the row that is being drawn, and before whatever comes next.
            studio.worker.submit(steps.close)
        studio.line.leave(ticket)


async def _warm(studio: Studio, request: Request) -> Response:
    studio.warm(studio.model(parse(await request.body()).get("model")))
    return JSONResponse({})


async def _surprise(studio: Studio, request: Request) -> Response:
    fields = parse(await request.body())
    model = studio.model(fields.get("model"))
    images = image_arrays([fields.get("tokens")], model.n_tokens, model.n_vocab)
    (nats,) = await studio.worker.run(lambda: model.score(images, None))
    return JSONResponse({"nats": [round(float(x), 3) for x in nats]})


async def _classify(studio: Studio, request: Request) -> Response:
    fields = parse(await request.body())
    model = studio.model(fields.get("model"))
    (tokens,) = image_arrays([fields.get("tokens")], model.n_tokens, model.n_vocab)
    return JSONResponse({"classes": await studio.worker.run(lambda: model.classify(tokens))})


async def _png(studio: Studio, request: Request) -> Response:
    model, images, scale, _ = _figure(studio, await request.body())
    return Response(await run_in_threadpool(pictures.png_of, model, images, scale), media_type="image/png")


async def _gif(studio: Studio, request: Request) -> Response:
    model, images, scale, known = _figure(studio, await request.body())
    return Response(await run_in_threadpool(pictures.gif_of, model, images, known, scale), media_type="image/gif")


async def _mask_png(studio: Studio, request: Request) -> Response:
    fields = parse(await request.body())
    model = studio.model(fields.get("model"))
    return Response(pictures.mask_png(known_array(fields.get("known"), model.n_tokens)), media_type="image/png")


def _figure(studio: Studio, body: bytes) -> tuple[Drawer, np.ndarray, int, np.ndarray]:
    """The model, the images (N, T), the scale and the known tokens (T,) of a request for a file."""
    fields = parse(body)
    model = studio.model(fields.get("model"))
    images = image_arrays(fields.get("images"), model.n_tokens, model.n_vocab)
    known = known_array(fields.get("known", [0] * model.n_tokens), model.n_tokens)
    scale = whole("scale", fields.get("scale", 1), 1, MOST_SCALE)
    if images.size * scale**2 > MOST_FILE_PIXELS:
        raise UserError(f"expected a file of at most {MOST_FILE_PIXELS:,} pixels, got {images.size * scale**2:,}")
    return model, images, scale, known


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":")) + "\n"


def _problem(error: Exception) -> str:
    """One sentence for what the user cannot help."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or kind == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in text:
        return NO_MEMORY
    return f"the drawing failed: {kind}: {text}".splitlines()[0][:300]


def _refuse(reason: object, status: HTTPStatus) -> Response:
    return JSONResponse({"error": str(reason)}, status)


async def _http_error(request: Request, error: HTTPException) -> Response:
    is_ours = error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    reason = error.detail if is_ours else f"expected a request of the page, got {request.method} {request.url.path}"
    return JSONResponse({"error": reason[:300]}, error.status_code, error.headers)


async def _server_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": _problem(error)}, HTTPStatus.INTERNAL_SERVER_ERROR)
