"""The stage `browse`: a local page to look through a synthetic folder, which ends when its user ends it."""

import importlib.util
import os
import sys
import webbrowser
from pathlib import Path

from ..errors import GanaugError


def browse(
    augmented: str | Path, *, real: str | Path | None = None, port: int = 0, open_browser: bool = True
) -> dict[str, int]:
    """Serves a page on 127.0.0.1 to keep or reject the images of a folder that `synthesize` wrote, until Ctrl-C; prints its address.

    A rejected image is `kept = False` in the manifest, with the reason `by-hand`, and leaves its class folder, so that nothing trains
    with it any more; keeping it brings it back. Every decision is on the disk before the page shows it as saved.

    real: the data of the run, or the run, to show each image beside the real one that it is nearest to. Without it those in the folder
        (`synthesize --with-real`), or of the run that `ganaug run` has put beside it.
    port: 0 for a free one.
    open_browser: opens the page where there is a screen.

    Returns the numbers of images {"rejected", "kept"} that are otherwise than before. Raises `GanaugError` for a folder without a
    manifest, one that is being browsed already, and decisions that could not be written into the manifest.
    """
    if importlib.util.find_spec("flask") is None:
        raise GanaugError("browse needs flask. Install it: pip install 'ganaug[browse]'")
    from .decisions import open_desk, summarize
    from .reals import open_reals
    from .server import make_server

    folder = Path(augmented)
    with open_desk(folder) as desk:
        server = make_server(desk, open_reals(folder, None if real is None else Path(real)), port)
        print(f"browse: {server.url}\nCtrl-C here ends it. Decisions are saved as they are made.", flush=True)
        if open_browser and (sys.platform in ("win32", "darwin") or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)):
            webbrowser.open(server.url)
        server.web.serve_forever()  # until Ctrl-C
    return summarize(desk)
