import hashlib

import numpy as np
import pytest

from ganaug import GanaugError
from ganaug.data.images import decode, resize
from ganaug.data.scan import examine_part, peek_sizes, scan
from ganaug.data.source import open_source


def test_scan_describes_every_file_in_the_order_of_the_source(make_folder, make_zip):
    folder = make_folder({"train/cat": 2, "test/dog": 1}, size=(30, 20))
    data = (folder / "train/cat/1.png").read_bytes()
    for path in (folder, make_zip(folder)):
        source = open_source(path)
        scanned = scan(source, 16, "pad")
        assert [record.name for record in scanned.records] == [file.name for file in source.files]
        record = scanned.records[1]
        assert (record.name, record.class_name, record.split) == ("train/cat/1.png", "cat", "train")
        assert (record.width, record.height, record.mode, record.channels, record.frames) == (30, 20, "RGB", 3, 1)
        assert record.sha256 == hashlib.sha256(data).hexdigest() and record.error is None
        np.testing.assert_array_equal(scanned.pixels[1], resize(decode(data).pixels, 16, "pad"))


def test_scan_goes_on_after_broken_files(make_folder):
    folder = make_folder({"cat": 3})
    whole = (folder / "cat/1.png").read_bytes()
    (folder / "cat/0.png").write_bytes(whole[:200])
    (folder / "cat/2.png").write_text("text")
    scanned = scan(open_source(folder), 16)
    assert [record.error for record in scanned.records] == ["truncated", None, "not an image"]
    assert scanned.pixels[0] is None and scanned.pixels[1] is not None


def test_broken_files_are_not_copies_of_each_other(make_folder):
    folder = make_folder({"cat": 3})
    for index in (0, 1):
        (folder / f"cat/{index}.png").write_text("text")
    copies = scan(open_source(folder)).copies
    assert copies.exact == copies.near == () and len(set(copies.group.tolist())) == 3


def test_pixels_are_kept_only_when_asked_for(make_folder):
    assert scan(open_source(make_folder({"cat": 1}))).pixels is None


def test_every_file_is_decoded_once(make_folder, monkeypatch):
    decoded = []
    monkeypatch.setattr("ganaug.data.scan.decode", lambda data, room: decoded.append(data) or decode(data, room))
    scan(open_source(make_folder({"cat": 4, "dog": 3})), 16)
    assert len(decoded) == len(set(decoded)) == 7


def test_peek_sizes_skips_the_unreadable(make_folder):
    folder = make_folder({"cat": 2}, size=(30, 20))
    (folder / "cat/broken.png").write_text("text")
    assert peek_sizes(open_source(folder)) == [(30, 20), (30, 20)]


def test_processes_find_what_threads_find(make_folder, make_zip, monkeypatch):
    """Also where pixels and fingerprints go to files, and where a file is broken."""
    folder = make_folder({"cat": 4, "dog": 3})
    (folder / "dog/1.png").write_text("text")
    (folder / "dog/2.png").write_bytes((folder / "cat/1.png").read_bytes())
    for path in (folder, make_zip(folder)):
        expected = scan(open_source(path), 16)
        with monkeypatch.context() as patch:
            for name, value in (("FEW", 1), ("CHUNK", 3), ("IN_MEMORY", 1), ("cpu_count", lambda: 2)):
                patch.setattr(f"ganaug.data.scan.{name}", value)
            found = scan(open_source(path), 16)
        assert found.records == expected.records
        assert found.copies.near == expected.copies.near and found.copies.exact == expected.copies.exact != ()
        for number in range(7):
            np.testing.assert_array_equal(found.pixels[number], expected.pixels[number])


def test_what_is_too_large_for_a_process_is_read_where_it_has_the_memory_alone(make_folder, make_zip, monkeypatch):
    folder = make_folder({"cat": 4, "dog": 3})
    for path in (folder, make_zip(folder)):
        source = open_source(path)
        expected = scan(source, 16)
        part = source.part(source.files)
        assert examine_part(part, None, "crop", 2**27) == [None] * 7  # a share of two bytes
        assert None not in examine_part(part, None, "crop", 2)
        with monkeypatch.context() as patch:
            for name, value in (("FEW", 1), ("CHUNK", 3), ("cpu_count", lambda: 2)):
                patch.setattr(f"ganaug.data.scan.{name}", value)
            patch.setattr(
                "ganaug.data.scan.examine_part", lambda part, **how: examine_part(part, **how | {"processes": 2**27})
            )
            found = scan(source, 16)
        assert found.records == expected.records


def test_data_that_vanish_while_processes_read_them_are_told_of(make_folder, monkeypatch):
    source = open_source(make_folder({"cat": 4, "dog": 3}))
    (source.path / "dog/1.png").unlink()
    for name, value in (("FEW", 1), ("CHUNK", 3), ("cpu_count", lambda: 2)):
        monkeypatch.setattr(f"ganaug.data.scan.{name}", value)
    with pytest.raises(GanaugError, match="vanished while it was read"):
        scan(source, 16)
