"""A small synthetic folder, as `ganaug synthesize` leaves it, and a page of it that really listens."""

import http.client
import json
import threading
from contextlib import contextmanager

from PIL import Image

from ganaug.browsing.decisions import open_desk
from ganaug.browsing.server import make_server
from ganaug.data.interop import write_dataset_json, write_metadata
from ganaug.data.manifest import Row, manifest_writer, read_manifest

HOSTILE = "<img src=x onerror=alert(1)> & $(rm)'"
CLASSES = ("0", HOSTILE)
PER_CLASS = 4


def row_of(name, i):
    return Row(
        f"{name}/synthetic-{i:06d}.png",
        name,
        "synthetic",
        seed=2**62 + i,
        realism=[0.5, -3.25, 2.0, None][i],
        class_probability=0.9 - i / 10,
        nearest_real=f"train/{name}/real-{i}.png",
        relative_distance=0.5 + i / 10,
    )


def write_picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize((16, 16)).point(lambda value: (value + shade) % 256).save(path)


def write_folder(folder):
    """Eight images of two classes, a rejected candidate without a file before each class."""
    folder.mkdir(parents=True)
    with manifest_writer(folder) as write:
        for number, name in enumerate(CLASSES):
            write(Row("", name, "synthetic", kept=False, reasons="copy", seed=number))
            for i in range(PER_CLASS):
                write_picture(folder / name / f"synthetic-{i:06d}.png", 20 * i + 100 * number)
                write(row_of(name, i))
    table = read_manifest(folder)
    write_metadata(folder, table)
    write_dataset_json(folder, table, (*CLASSES, "never made"))
    return folder


class Client:
    """Requests to a server, with or without what a browser would say of them."""

    def __init__(self, desk, server):
        self.desk, self.url = desk, server.url
        self.host, _, path = server.url.removeprefix("http://").partition("/")
        self.root = f"/{path}"

    def ask(self, path, body=None, method=None, **headers):
        """(status, headers, content); `path` is below the page, or whole where it begins with a slash."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body)
        if content is not None:
            given.setdefault("Content-Type", "application/json")
        whole = path if path.startswith("/") else self.root + path
        connection.request(method or ("GET" if body is None else "POST"), whole, content, given)
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def state(self):
        return json.loads(self.ask("state.json")[2])

    def decide(self, *decisions, **headers):
        return self.ask("decide", {"decisions": decisions}, **headers)


@contextmanager
def serving(folder, reals=None):
    with open_desk(folder) as desk:
        server = make_server(desk, reals, 0)
        thread = threading.Thread(target=server.web.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield Client(desk, server)
        finally:
            server.web.shutdown()
            thread.join()
