"""The page's server, on this machine alone: whoever has the secret part of its address sees the folder's images and may decide.

Images are asked for by the number of their row in the manifest, never by a path. A request from another site is refused by three
tests, each of which would do: it does not know the secret, it does not call the server by a name of this machine (which ends DNS
rebinding), and the browser says that it comes from elsewhere.
"""

import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler
from werkzeug.serving import make_server as make_werkzeug_server

from ..errors import GanaugError
from .decisions import SCORES, Desk, decide, read_image
from .reals import Reals, shrink_to_png

ADDRESS = "127.0.0.1"
HOSTS = (ADDRESS, "localhost")  # with any port: it may be another one at the end of an SSH tunnel
TEMPLATES = Path(__file__).parent / "templates"
FILES = {  # of the page
    "report.css": (Path(__file__).parents[1] / "reporting" / "templates" / "style.css", "text/css"),
    "browse.css": (TEMPLATES / "browse.css", "text/css"),
    "page.js": (TEMPLATES / "page.js", "text/javascript"),
}
SHOWN_AS_THEY_ARE = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
LARGEST_REQUEST = 2**20  # bytes
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Server:
    """One that listens, and the address of its page."""

    web: BaseWSGIServer
    url: str


class _Silent(WSGIRequestHandler):
    """Writes no line for each request, and does not tell its version."""

    server_version, sys_version = "ganaug", ""
    disable_nagle_algorithm = True  # head and body of an answer are sent apart

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


def make_server(desk: Desk, reals: Reals | None, port: int) -> Server:
    """A server of the desk's page that listens on 127.0.0.1, at a free port where `port` is 0. Raises `GanaugError` if the port is
    taken."""
    token = secrets.token_urlsafe(24)
    with socket.socket() as listener:  # werkzeug, left alone with a port that is taken, ends the program
        try:
            listener.bind((ADDRESS, port))
            listener.listen(128)
        except (OSError, OverflowError) as error:
            raise GanaugError(
                f"port {port} cannot be used: {error}. Give another --port, or none for a free one."
            ) from None
        number = listener.getsockname()[1]
        web = make_werkzeug_server(
            ADDRESS, number, make_app(desk, reals, token), threaded=True, request_handler=_Silent, fd=listener.fileno()
        )
    return Server(web, f"http://{ADDRESS}:{number}/{token}/")


def make_app(desk: Desk, reals: Reals | None, token: str) -> Flask:
    """The page, its data, the images, and the one request that changes anything."""
    app = Flask("ganaug.browsing", template_folder=str(TEMPLATES), static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    app.before_request(lambda: _refuse_strangers(token))
    app.after_request(_add_headers)
    app.register_error_handler(HTTPException, _explain)

    def page() -> str:
        return render_template("page.html", name=desk.folder.resolve().name, folder=str(desk.folder.resolve()))

    def file_of_page(name: str) -> Response:
        path, kind = FILES[name] if name in FILES else abort(404)
        return Response(path.read_bytes(), content_type=f"{kind}; charset=utf-8")

    def state() -> Response:
        return jsonify(describe(desk, reals))

    def pulse() -> Response:
        return jsonify(version=desk.version, trouble=desk.trouble)

    def image(row: int) -> Response:
        if row not in desk.entries:
            abort(404)
        kind = SHOWN_AS_THEY_ARE.get(Path(desk.entries[row].file).suffix.lower())
        return _picture(
            lambda: read_image(desk, row) if kind else shrink_to_png(read_image(desk, row)), kind or "image/png"
        )

    def real(row: int) -> Response:
        name = desk.entries[row].nearest_real if row in desk.entries else ""
        if reals is None or name not in reals.names:
            abort(404)
        return _picture(lambda: reals.read(name), "image/png")

    def take_decisions() -> tuple[Response, int]:
        try:
            given = request.get_json()
        except RecursionError:
            abort(400, "Expected JSON of a few brackets within one another.")
        try:
            decide(desk, read_decisions(given, desk))
        except (GanaugError, OSError) as error:
            return jsonify(error=str(error), version=desk.version), 500
        return jsonify(version=desk.version, trouble=desk.trouble), 200

    app.add_url_rule("/<token>/", view_func=_without_token(page), endpoint="page")
    app.add_url_rule("/<token>/<name>", view_func=_without_token(file_of_page), endpoint="file")
    app.add_url_rule("/<token>/state.json", view_func=_without_token(state), endpoint="state")
    app.add_url_rule("/<token>/pulse", view_func=_without_token(pulse), endpoint="pulse")
    app.add_url_rule("/<token>/image/<int:row>", view_func=_without_token(image), endpoint="image")
    app.add_url_rule("/<token>/real/<int:row>", view_func=_without_token(real), endpoint="real")
    app.add_url_rule("/<token>/decide", view_func=_without_token(take_decisions), endpoint="decide", methods=["POST"])
    return app


def _without_token(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view, whose address holds the secret that `_refuse_strangers` has compared."""
    return lambda token, **values: view(**values)


def _refuse_strangers(token: str) -> None:
    """Ends the request unless it knows the secret and comes from the page itself, or is somebody opening the page."""
    host = request.headers.get("Host", "")
    if host.rsplit(":", 1)[0] not in HOSTS:
        abort(403, "This server answers to 127.0.0.1 and localhost alone.")
    given = request.path.split("/")[1]
    if not secrets.compare_digest(given.encode(), token.encode()):
        abort(
            403,
            "The address has a secret part, which is wrong or missing. Open the one that ganaug browse has printed last.",
        )
    opens_page = request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "document"
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not opens_page:
        abort(403, "This request comes from another site.")
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{host}":
        abort(403, "This request comes from another site.")


def _add_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _explain(error: HTTPException) -> tuple[str, int, dict[str, str]]:
    return f"{error.description or error.name}\n", error.code or 500, {"Content-Type": "text/plain; charset=utf-8"}


def _picture(read: Callable[[], bytes], kind: str) -> Response:
    try:
        content = read()
    except (GanaugError, OSError) as error:
        abort(404, str(error))
    # An image never changes, and the next server has other addresses.
    return Response(content, content_type=kind, headers={"Cache-Control": "private, max-age=86400, immutable"})


def read_decisions(given: Any, desk: Desk) -> list[tuple[int, bool]]:
    """`{"decisions": [[row, kept], ...]}`, checked. Ends the request unless it is that, of images that there are."""
    decisions = given.get("decisions") if isinstance(given, dict) else None
    if not isinstance(decisions, list) or not decisions:
        abort(400, 'Expected {"decisions": [[row, kept], ...]}.')
    for each in decisions:
        if not (isinstance(each, list) and [type(part) for part in each] == [int, bool] and each[0] in desk.entries):
            abort(400, f"Expected [number of an image's row, true or false], not {str(each)[:80]}.")
    return [(row, kept) for row, kept in decisions]


def describe(desk: Desk, reals: Reals | None) -> dict[str, Any]:
    """What the page shows, column by column: {"rows": [...], "files": [...], ...}, in the order of the manifest."""
    version = desk.version  # first: a decision made meanwhile makes the page ask again
    entries = list(desk.entries.items())
    names = list(dict.fromkeys(entry.class_name for _, entry in entries))
    numbers = {name: number for number, name in enumerate(names)}
    shown = reals.names if reals else frozenset()
    return {
        "version": version,
        "trouble": desk.trouble,
        "class_names": names,
        "real_origin": reals.origin if reals else None,
        "rows": [row for row, _ in entries],
        "files": [entry.file for _, entry in entries],
        "classes": [numbers[entry.class_name] for _, entry in entries],
        "kept": [entry.kept for _, entry in entries],
        "reasons": [entry.reasons for _, entry in entries],
        "nearest": [entry.nearest_real for _, entry in entries],
        "has_real": [entry.nearest_real in shown for _, entry in entries],
        "scores": {
            name: [entry.scores.get(name) for _, entry in entries]
            for name in SCORES
            if any(entry.scores.get(name) is not None for _, entry in entries)
        },
    }
