"""The server by real requests: what it shows, what it takes, and whom it refuses."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from PIL import Image
from synthetic_folder import CLASSES, HOSTILE, PER_CLASS, serving, write_folder, write_picture
from tiny import refused

import ganaug
from ganaug.browsing.decisions import parcel
from ganaug.browsing.reals import open_reals
from ganaug.data.manifest import NAME, Row, manifest_writer, read_manifest

FIRST = 1


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_page_and_what_it_shows(folder):
    with serving(folder) as client:
        status, headers, page = client.ask("")
        assert status == 200 and headers["Content-Type"].startswith("text/html") and b"augmented" in page
        assert b"onerror" not in page  # names come as data, which the script writes as text
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        for name in ("page.js", "browse.css", "report.css"):
            assert client.ask(name)[0] == 200
        state = client.state()
        assert state["class_names"] == list(CLASSES) and len(state["rows"]) == 2 * PER_CLASS
        assert state["rows"][0] == FIRST and state["scores"]["realism"][:4] == [0.5, -3.25, 2.0, None]
        assert "distance" not in state["scores"]
        status, headers, image = client.ask(f"image/{FIRST}")
        assert headers["Content-Type"] == "image/png" and image == (folder / "0/synthetic-000000.png").read_bytes()


def test_a_decision_is_saved_and_undone(folder):
    with serving(folder) as client:
        image = client.ask(f"image/{FIRST}")[2]
        assert client.decide([FIRST, False], [FIRST + 5, False])[0] == 200
        assert client.state()["kept"].count(False) == 2
        assert client.ask(f"image/{FIRST}")[2] == image
        wait_for(lambda: (folder / NAME).read_text().count("by-hand") == 2)  # while the server runs
        assert json.loads(client.ask("pulse")[2]) == {"version": 2, "trouble": ""}
        assert client.decide([FIRST, True])[0] == 200
    assert len(read_manifest(folder)) == 2 * PER_CLASS - 1


def test_a_decision_that_fails_is_told(folder):
    with serving(folder) as client:
        (folder / "0/synthetic-000000.png").unlink()
        status, _, answer = client.decide([FIRST, False])
        assert status == 500 and "its file is gone" in json.loads(answer)["error"]
        assert client.ask(f"image/{FIRST}")[0] == 404


BAD_BODIES = [
    {},
    [],
    {"decisions": []},
    {"decisions": [[0, False]]},  # a candidate without a file
    {"decisions": [[999, False]]},
    {"decisions": [[FIRST, 0]]},
    {"decisions": [[True, False]]},
    {"decisions": [["0/synthetic-000000.png", False]]},
    {"decisions": [[FIRST, False], ["../../x", True]]},
    {"decisions": [[FIRST, False, 1]]},
]


def test_bad_decisions_are_refused_whole(folder):
    with serving(folder) as client:
        for body in BAD_BODIES:
            assert client.ask("decide", body)[0] == 400, body
        assert client.ask("decide", {"decisions": [[FIRST, False]]}, Content_Type="text/plain")[0] == 415
        assert client.ask("decide", {"decisions": "x" * 2**21})[0] == 413
        assert client.ask("decide")[0] == 404 and client.ask("state.json", {})[0] == 405
        assert client.state()["kept"] == [True] * 2 * PER_CLASS


def test_strangers_are_refused(folder):
    with serving(folder) as client:
        token = client.root.strip("/")
        assert len(token) >= 32
        for path in ("/", f"/{token[:-1]}/", "/x/state.json", f"/x/image/{FIRST}", f"/?token={token}"):
            assert client.ask(path)[0] == 403, path
        assert client.ask("/x/decide", {"decisions": [[FIRST, False]]})[0] == 403
        for host in (
            "evil.example",
            f"evil.example:{client.host.split(':')[1]}",
            "127.0.0.1.evil.example:80",
            "[::1]:80",
            "",
        ):
            assert client.ask("", Host=host)[0] == 403, host
        for host in ("localhost:9000", "127.0.0.1:9000", "localhost"):  # through a tunnel
            assert client.ask("", Host=host)[0] == 200, host


def test_requests_from_other_sites_are_refused(folder):
    with serving(folder) as client:
        own = f"http://{client.host}"
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},  # another server of this machine
            {"Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "same-site"},
            {"Origin": own, "Sec_Fetch_Site": "cross-site"},
            {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Dest": "document"},  # a form
        ):
            assert client.decide([FIRST, False], **headers)[0] == 403, headers
        assert all(client.state()["kept"])
        for path in ("state.json", f"image/{FIRST}"):
            assert client.ask(path, Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image")[0] == 403
        followed = client.ask("", Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document")  # a link to the page
        assert followed[0] == 200
        assert client.decide([FIRST, False], Origin=own, Sec_Fetch_Site="same-origin")[0] == 200


def test_only_this_machine_is_answered(folder):
    with serving(folder) as client:
        assert client.host.startswith("127.0.0.1:")
        others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None)} - {"127.0.0.1"}
        for address in others:
            with pytest.raises(OSError), socket.create_connection((address, int(client.host.split(":")[1])), 2):
                pass


def test_no_path_leads_out(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    tries = ["image/../../secret.png", "image/..%2f..%2fsecret.png", "../secret.png", "%2e%2e/secret.png", "image/-1"]
    tries += ["image/999", "image/0", f"image/{FIRST}/../../secret.png", NAME, "manifest.csv%00", f"real/{FIRST}"]
    with serving(folder) as client:
        for path in tries:
            status, _, content = client.ask(path)
            assert status == 404 and b"secret" not in content, path


def test_a_link_put_in_the_place_of_an_image_is_not_followed(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    with serving(folder) as client:
        (folder / "0/synthetic-000000.png").unlink()
        (folder / "0/synthetic-000000.png").symlink_to(tmp_path / "secret.png")
        assert client.ask(f"image/{FIRST}")[0] == 404 and client.decide([FIRST, False])[0] == 500
        link = parcel(folder, "0/synthetic-000001.png")
        link.symlink_to(tmp_path / "secret.png")
        (folder / "0/synthetic-000001.png").unlink()
        assert client.ask(f"image/{FIRST + 1}")[0] == 404
        link.unlink()
    assert (tmp_path / "secret.png").read_bytes() == b"secret"


def speak(client, request):
    """The answer to a request as it stands, which need not be HTTP."""
    host, port = client.host.split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_requests_that_no_browser_sends(folder, tmp_path):
    """Whatever is sent, the secret and the names of this machine are asked for, nothing leads out, and the server lives on."""
    (tmp_path / "secret.png").write_bytes(b"secret")
    with serving(folder) as client:
        root, host = client.root.encode(), client.host.encode()
        decision = json.dumps({"decisions": [[FIRST, False]]}).encode()
        post = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(decision), decision)
        refused_ones = [
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET %s HTTP/1.1\r\n\r\n" % root,  # no host
            b"GET %s HTTP/1.1\r\nHost: evil.example\r\nHost: %s\r\n\r\n" % (root, host),
            b"POST %sdecide HTTP/1.1\r\nHost: %s\r\nOrigin: null\r\n%s" % (root, host, post),
            b"POST %sdecide HTTP/1.1\r\nHost: %s\r\nOrigin: https://%s\r\n%s" % (root, host, host, post),
            b"POST %sdecide HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.localhost\r\n%s" % (root, post),
            b"OPTIONS * HTTP/1.1\r\nHost: %s\r\n\r\n" % host,
            b"GET http://evil.example/ HTTP/1.1\r\nHost: %s\r\n\r\n" % host,
            b"GET \xff\xfe/ HTTP/1.1\r\nHost: %s\r\n\r\n" % host,
            b"GET %simage/..%%5c..%%5csecret.png HTTP/1.1\r\nHost: %s\r\n\r\n" % (root, host),
            b"GET %simage/%d%%00 HTTP/1.1\r\nHost: %s\r\n\r\n" % (root, FIRST, host),
            b"GET %simage/%s HTTP/1.1\r\nHost: %s\r\n\r\n" % (root, b"9" * 6000, host),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of HTTPS
            b"GET %s" % root,
        ]
        for request in refused_ones:
            answer = speak(client, request)
            status = answer.split(b" ", 2)[1] if answer.startswith(b"HTTP/") else b""
            assert status[:1] in (b"4", b""), (request, answer[:200])
            assert b"secret" not in answer.replace(b"secret part", b"") and b"Traceback" not in answer
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
            status, headers, _ = client.ask("decide", method=method)
            assert status in (200, 405, 501) and not [name for name in headers if name.startswith("Access-Control")], (
                method
            )
        body = json.dumps({"decisions": [[FIRST, False]]})
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):  # of forms
            assert client.ask("decide", json.loads(body), Content_Type=kind)[0] == 415
        assert all(client.state()["kept"])


def test_images_of_any_size_are_not_read(folder):
    with (folder / "0/synthetic-000000.png").open("r+b") as file:
        file.truncate(2**40)  # that take no place
    with serving(folder) as client:
        status, _, said = client.ask(f"image/{FIRST}")
        assert status == 404 and b"it has more than" in said
        assert client.ask(f"image/{FIRST + 1}")[0] == 200


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 100_000, b'{"decisions": [[%s, true]]}' % (b"9" * 9000)])
def test_decisions_that_are_nothing_but_brackets_are_refused(folder, body, capfd):
    with serving(folder) as client:
        root, host = client.root.encode(), client.host.encode()
        head = b"POST %sdecide HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n" % (root, host)
        answer = speak(
            client, b"%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body)
        )
        assert answer.startswith(b"HTTP/1.1 400")
        assert all(client.state()["kept"])
    assert capfd.readouterr().err == ""


def test_a_manifest_that_leads_out_is_not_served(folder, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    text = (folder / NAME).read_text()
    for file in ("../secret.png", str(tmp_path / "secret.png"), "0/../../secret.png"):
        (folder / NAME).write_text(text.replace("0/synthetic-000000.png", file))
        with pytest.raises(ganaug.GanaugError, match="names the file"), serving(folder):
            pass


# The real images


def write_reals(folder):
    for name in CLASSES:
        for i in range(PER_CLASS):
            write_picture(folder / "train" / name / f"real-{i}.png", 7 * i)
    return folder


def test_the_nearest_real_image_is_shown(folder, tmp_path):
    data = write_reals(tmp_path / "data")
    Image.new("RGB", (3000, 1500), "red").save(data / "train/0/real-1.png")
    with serving(folder, open_reals(folder, data)) as client:
        state = client.state()
        assert all(state["has_real"]) and state["real_origin"] == str(data)
        status, headers, _ = client.ask(f"real/{FIRST}")
        assert status == 200 and headers["Content-Type"] == "image/png"
        large = tmp_path / "large.png"
        large.write_bytes(client.ask(f"real/{FIRST + 1}")[2])
        assert Image.open(large).size == (512, 256)


def test_real_images_of_the_folder_or_none(folder):
    assert open_reals(folder, None) is None
    write_picture(folder / "0/real-000000.png", 9)
    rows = [
        Row("0/synthetic-000000.png", "0", "synthetic", nearest_real="train/0/a.png"),
        Row("0/real-000000.png", "0", "real", original="train/0/a.png"),
    ]
    with manifest_writer(folder) as write:
        for row in rows:
            write(row)
    with serving(folder, open_reals(folder, None)) as client:
        state = client.state()
        assert state["files"] == ["0/synthetic-000000.png"] and state["has_real"] == [True]
        assert client.ask("real/0")[0] == 200 and client.ask("real/1")[0] == client.ask("image/1")[0] == 404


def test_real_images_of_a_run(tiny_run, tiny_synthetic, digits):
    table = read_manifest(tiny_synthetic)
    for given in (tiny_run, digits):
        found = open_reals(tiny_synthetic, given)
        assert set(table["nearest_real"]) <= found.names
        assert found.read(table["nearest_real"][0]).startswith(b"\x89PNG")


def test_real_images_of_the_run_beside_the_folder(tiny_run, tiny_synthetic, tmp_path):
    """As `ganaug run` lays both out; a run that has not made these images is none."""
    shutil.copytree(tiny_run, tmp_path / "run")
    folder = shutil.copytree(tiny_synthetic, tmp_path / "synthetic")
    found = open_reals(folder, None)
    assert found is not None and set(read_manifest(folder)["nearest_real"]) <= found.names
    weights = tmp_path / "run/members/joint/generator.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    assert open_reals(folder, None) is None


def test_other_data_are_refused(folder, tmp_path):
    write_picture(tmp_path / "data/0/other.png", 0)
    with pytest.raises(ganaug.GanaugError, match="holds none of the real images"):
        open_reals(folder, tmp_path / "data")


# The command


def start(folder, *arguments):
    command = [sys.executable, "-m", "ganaug", "browse", str(folder), "--no-open", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT for another process")
def test_the_command_says_where_and_what_was_decided(folder):
    import urllib.request

    process = start(folder)
    try:
        address, stop = process.stdout.readline(), process.stdout.readline()
        url = address.removeprefix("browse: ").strip()
        assert url.startswith("http://127.0.0.1:") and "Ctrl-C" in stop
        body = json.dumps({"decisions": [[FIRST, False]]}).encode()
        request = urllib.request.Request(f"{url}decide", body, {"Content-Type": "application/json"})
        assert urllib.request.urlopen(request).status == 200
        message = refused("browse", folder, "--no-open")
        assert "is being browsed already" in message
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and errors == ""
    assert f"1 rejected and 0 kept again in {folder}" in out
    assert len(read_manifest(folder)) == 2 * PER_CLASS - 1


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_what_the_server_has_acknowledged_outlives_it(folder):
    import urllib.request

    process = start(folder)
    try:
        url = process.stdout.readline().removeprefix("browse: ").strip()
        for row in (FIRST, FIRST + 1, FIRST + 5):
            body = json.dumps({"decisions": [[row, False]]}).encode()
            request = urllib.request.Request(f"{url}decide", body, {"Content-Type": "application/json"})
            assert urllib.request.urlopen(request).status == 200
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert len(read_manifest(folder)) == 2 * PER_CLASS - 3
    with serving(folder) as client:
        assert client.state()["kept"].count(False) == 3
        assert all(client.ask(f"image/{row}")[0] == 200 for row in client.state()["rows"])
    assert (folder / NAME).read_text().count("by-hand") == 3


def test_the_command_refuses(folder, tmp_path, monkeypatch):
    assert "has no manifest.csv" in refused("browse", tmp_path, "--no-open")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "cannot be used" in refused("browse", folder, "--no-open", "--port", taken.getsockname()[1])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'ganaug[browse]'" in refused("browse", folder, "--no-open")


def test_names_are_data(tmp_path):
    with serving(write_folder(tmp_path / "<i>&'\"")) as client:
        assert b"<i>" not in client.ask("")[2]
        _, headers, content = client.ask("state.json")
        assert headers["Content-Type"] == "application/json" and json.loads(content)["class_names"][1] == HOSTILE
