"""Archives, checkpoints, manifests, runs and recipes that mean harm: each in a folder of its own, with the command that opens it.

Whatever they would run, were it run, creates the file CANARY; whatever they would write lies outside the folder `target`.
"""

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganaug.classify.backbones import OWN, Classifier
from ganaug.classify.predictor import Card, save_classifier
from ganaug.data.cache import prepare
from ganaug.data.manifest import COLUMNS, JOURNAL, TEMPORARY
from ganaug.gan.member import build_networks, save_networks
from ganaug.gan.networks import Backbone
from ganaug.integrations.generator import Generator
from ganaug.recipe import dump_recipe, load_recipe
from ganaug.runs import RunFolder, checkpoint_of, write_json, write_text
from ganaug.synthesis.halfway import Halfway, save_halfway
from ganaug.synthesis.synthesize import describe_request, open_request
from ganaug.synthesis.tally import Tally
from ganaug.synthesis.writing import Shard

CLASSES = ("cat", "dog")
SIZE, WIDTH, LATENT = 16, 4, 4
Arguments = list[Any]


@dataclass(frozen=True)
class Trap:
    """`set_up` fills an empty folder and returns the command; `named` is what the answer must name where the command goes on without it."""

    name: str
    set_up: Callable[[Path], Arguments]
    named: str | None = None


@dataclass(frozen=True)
class Material:
    """What the traps are made from: whole files that the commands would take."""

    images: Path  # a folder of class folders
    run: Path
    manifest: list[str]  # lines
    classifier: Path
    generator: Path
    canary: Path


def write_material(folder: Path) -> Material:
    """An untrained run and what would be made from it; seconds, since nothing is trained."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        for split, count in (("train", 12), ("test", 3)):
            (folder / "images" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / name / f"{number}.png")
    run = RunFolder(folder / "run")
    recipe = load_recipe(
        {
            "data": {"image_size": SIZE, "mirror": "none"},
            "fit": {"threads": 1, "width": WIDTH, "steps": 1, "device": "cpu"},
        }
    )
    images, _ = prepare(folder / "images", recipe.data, run.data, "cpu")
    counts = [images.counts("train")[name] for name in CLASSES]
    shape = {"family": "noise", "class_counts": counts, "image_size": SIZE, "channels": 3, "mirror": "none"}
    shape |= {"operations": [], "latent_size": LATENT, "width": WIDTH}
    save_networks(run.member("joint"), *build_networks(shape))
    write_json(run.member("joint") / "member.json", {"shape": shape, "steps": 1, "ended_at": 1, "seconds": 1.0})
    write_text(run.recipe, dump_recipe(recipe))
    info = {
        "complete": True,
        "source": "images",
        "class_names": list(CLASSES),
        "strategy": "joint",
        "members": ["joint"],
    }
    write_json(
        run.info,
        {"schema": 1, **info, "counts": {"train": dict(zip(CLASSES, counts, strict=True))}, "image_size": SIZE},
    )
    checkpoint = checkpoint_of(run.member("joint") / "generator.safetensors")
    lines = [
        f"cat/synthetic-{number:06d}.png,cat,synthetic,True,,{number},{checkpoint},1.0,,,,,,," for number in range(3)
    ]
    network = Classifier(Backbone(SIZE, 3, WIDTH, 8), len(CLASSES))
    card = Card(CLASSES, SIZE, 3, "crop", OWN, SIZE, "scratch/real", {})
    save_classifier(folder / "classifier.safetensors", network.state_dict(), card)
    Generator(CLASSES, [{"shape": shape, "classes": [0, 1], "labels": [0, 1]}]).save_pretrained(folder / "generator")
    return Material(
        folder / "images",
        run.root,
        [",".join(COLUMNS), *lines],
        folder / "classifier.safetensors",
        folder / "generator",
        folder / "CANARY",
    )


# Archives

UNSAFE = (
    "../out.png", "../../out.png", "/out.png", "//out/x.png", "C:/out.png", "C:\\out.png", "..\\out.png", "\\out.png",
    "cat/../../out.png",
    "cat/../out.png", "./../out.png", "cat/./out.png", "cat//out.png", "a/" * 100 + "out.png", "n" * 300 + "/out.png",
    "cat/" + "o" * 300 + ".png",
)  # fmt: skip


def picture(seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def zip_of(members: Sequence[tuple[str | zipfile.ZipInfo, bytes]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members:
            if isinstance(name, zipfile.ZipInfo):
                name.compress_type = compression
            archive.writestr(name, content)
    return file.getvalue()


def archives() -> Iterator[Trap]:
    whole = [(f"{name}/{number}.png", picture(2 * number + (name == "dog"))) for name in CLASSES for number in range(3)]

    def check(content: bytes) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            (folder / "data.zip").write_bytes(content)
            return ["check", folder / "data.zip"]

        return set_up

    link = zipfile.ZipInfo("cat/link.png")
    link.external_attr = 0o120777 << 16
    named: list[tuple[str, str | zipfile.ZipInfo, bytes, str]] = [
        (name[:20], name, picture(9), name[:20]) for name in UNSAFE
    ]
    named += [
        ("a link", link, b"/etc/passwd", "cat/link.png"),
        ("a bomb of a gigabyte", "cat/bomb.png", bytes(2**20), "cat/bomb.png"),
        ("a page of HTML", "cat/page.png", b"<script>alert(1)</script>", "cat/page.png"),
        ("a terminal's commands", "cat/\x1b[2J\x07.png", b"", "cat/\\x1b[2J"),
        ("a program", "cat/program.png", b"#!/bin/sh\ntouch CANARY", "cat/program.png"),
        ("PostScript", "cat/ps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n(CANARY) (w) file", "cat/ps.png"),
        (
            "SVG",
            "cat/svg.png",
            b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
            "cat/svg.png",
        ),
        ("another zip", "cat/zip.png", zip_of([("../out.png", b"x")]), "cat/zip.png"),
    ]
    for title, name, content, shown in named:
        shown = shown.replace("\\x1b", "\x1b").replace("\\", "/").replace("\x1b", "\\x1b")
        yield Trap(f"zip, among others: {title}", check(zip_of([*whole, (name, content)])), shown)
        if title in [each[:20] for each in UNSAFE] or title == "a link":
            yield Trap(f"zip, alone: {title}", check(zip_of([(name, content)])))
    packed = zip_of(whole)
    end = packed.rindex(b"PK\5\6")
    start = struct.unpack_from("<I", packed, end + 16)[0]
    for title, at, value in (
        ("disk", end + 4, b"\xff\xff"), ("number of entries", end + 10, b"\xff\xff"), ("size of the directory", end + 12,
        b"\xff\xff\xff\x7f"),
        ("where the directory is", end + 16, b"\xff\xff\xff\x7f"), ("entry's mark", start, b"XXXX"), ("name's length",
        start + 28, b"\xff\xff"),
        ("extra's length", start + 30, b"\xff\xff"), ("comment's length", start + 32, b"\xff\xff"), ("version", start + 6,
        b"\xff\0"),
        ("method", start + 10, b"\x63\0"), ("password", start + 8, b"\1\0"), ("checksum", start + 16, b"\0\0\0\0"),
        ("packed size", start + 20, b"\xff\xff\xff\x7f"), ("real size, none", start + 24, b"\0\0\0\0"),
        ("real size, much", start + 24, b"\xff\xff\xff\x7f"),
        ("place of the file", start + 42, b"\xff\xff\xff\x7f"), ("place of another", start + 42, b"\1\0\0\0"), ("time",
        10, b"PK\1\2"),
        ("local name", 30, b"\xff\xff/"), ("packed pixels", 60, b"\xff\xff\xff\xff"),
    ):  # fmt: skip
        yield Trap(f"zip, a lie: {title}", check(packed[:at] + value + packed[at + len(value) :]), "")
    for share in (0.1, 0.5, 0.9, 0.99):
        yield Trap(f"zip, cut at {share}", check(packed[: int(share * len(packed))]))
    yield Trap("zip, members over one another", check(overlapping_zip(200)))
    yield Trap("zip, empty", check(b""))
    yield Trap("zip, of nothing", check(zip_of([])))
    yield Trap("zip, a tar", check(b"ustar".rjust(262, b"\0").ljust(10_240, b"\0")))
    for suffix in ("__proto__", "manifest.csv", "README.md"):
        yield Trap(
            f"zip, a class {suffix}",
            check(zip_of([*whole, (f"{suffix}/a.png", picture(8))])),
            "small-class: class __proto__",
        )
    labels: dict[str, Any] = {
        "deep": "[" * 100_000, "digits": '{"labels": [["cat/0.png", ' + "9" * 5000 + "]]}", "list": "[]",
        "infinite": '{"labels": [["a", Infinity]]}',
        "text": '{"labels": [["cat/0.png", "x"]]}', "other files": '{"labels": [["../../out.png", 1]]}',
        "a number": '{"labels": 3}',
    }  # fmt: skip
    for title, text in labels.items():
        yield Trap(f"zip, dataset.json: {title}", check(zip_of([*whole, ("dataset.json", text.encode())])))


def overlapping_zip(count: int) -> bytes:
    """Many entries for the same packed gigabyte of zeros. After Fifield (2019), https://www.bamsoftware.com/hacks/zipbomb"""
    body = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = body.compress(bytes(2**24)) + body.flush()
    sizes = struct.pack("<III", zlib.crc32(bytes(2**24)), len(packed), 2**24)
    local = b"PK\3\4\x14\0\0\0\x08\0\0\0\0\0" + sizes + struct.pack("<HH", 9, 0) + b"cat/0.png" + packed
    entries = b"".join(
        b"PK\1\2\x14\0\x14\0\0\0\x08\0\0\0\0\0"
        + sizes
        + struct.pack("<HHHHHII", 9, 0, 0, 0, 0, 0, 0)
        + b"cat/%05d" % number
        for number in range(count)
    )
    return local + entries + b"PK\5\6\0\0\0\0" + struct.pack("<HHIIH", count, count, len(entries), len(local), 0)


# Recipes

WRONG_RECIPES = {
    "unknown key": "fit: {stepps: 3}", "unknown stage": "fitt: {steps: 3}", "text": "fit: {steps: many}",
    "a list": "fit: {steps: [1, 2]}",
    "truth": "fit: {steps: true}", "a mapping": "fit: {steps: {a: 1}}", "no mapping": "- fit", "a number": "3",
    "a stage that is none": "fit: 3",
    "negative": "fit: {steps: -1}", "huge": "fit: {steps: 99999999999999999999}", "digits": "fit: {steps: " + "9" * 5000 + "}",
    "hexadecimal": "fit: {steps: 0x" + "f" * 5000 + "}", "float": "fit: {learning_rate: 1.0e+400}",
    "infinite": "fit: {learning_rate: .inf}",
    "no number": "fit: {learning_rate: .nan}", "a date": "fit: {steps: 2026-99-99}", "a bad int": "fit: {steps: !!int x}",
    "many seeds": "compare: {seeds: 100000000}", "a wide network": "fit: {width: 99999999999}",
    "a large batch": "fit: {batch_size: 4000000000}",
    "many threads": "fit: {threads: 1000000}", "a long budget": "fit: {budget: 1.0e+300}", "no budget": "fit: {budget: 0}",
    "a pattern": "data: {group_regex: '('}", "an image size": "data: {image_size: 1000000}", "deep": "[" * 20_000,
    "deeper": "{a: " * 5000,
    "an alias": "a: &a [1, 2]\nb: *a",
    "laughs": "a: &a [x, x]\n" + "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]" for n in range(20)),
    "twice": "fit: {steps: 1}\nfit: {steps: 2}", "a key that is a number": "fit: {1: 2}", "a key that is a list": "? [1]\n: 2",
    "tabs": "fit:\n\tsteps: 1", "an open bracket": "fit: [", "a path": "data: {unlabeled: /nowhere/at/all}",
    "devices": "fit: {device: 'cuda:99'}",
    "a device": "fit: {device: '$(touch CANARY)'}",
}  # fmt: skip
CODE = (
    "!!python/object/apply:os.system ['touch CANARY']", "!!python/object/new:subprocess.Popen [['touch', 'CANARY']]",
    "!!python/name:os.system",
    "!!python/module:os", "!!python/object/apply:eval ['open(\"CANARY\", \"w\")']",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch CANARY']",
)  # fmt: skip


def recipes(made: Material) -> Iterator[Trap]:
    def fit(name: str, content: bytes) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            (folder / name).write_bytes(content.replace(b"CANARY", str(made.canary).encode()))
            return ["fit", made.images, "--dry-run", "--recipe", folder / name]

        return set_up

    for title, text in WRONG_RECIPES.items():
        yield Trap(f"recipe: {title}", fit("a.yaml", text.encode()))
    for text in CODE:
        yield Trap(f"recipe, code: {text[:40]}", fit("a.yaml", f"fit: {{steps: {text}}}".encode()))
    for title, content in (
        ("binary", bytes(range(256))),
        ("large", b"#" * 2**21),
        ("UTF-16", "fit: {}".encode("utf-16")),
    ):
        yield Trap(f"recipe: {title}", fit("a.yaml", content))
    for title, text in (
        ("deep", "a = " + "[" * 20_000),
        ("digits", "[fit]\nsteps = " + "9" * 5000),
        ("no TOML", "[fit"),
        ("twice", "a = 1\na = 2"),
    ):
        yield Trap(f"recipe in TOML: {title}", fit("a.toml", text.encode()))


# Manifests

FILES = ("../out.png", "../../out.png", "/out.png", "cat/../out.png", "cat/../../out.png", "dog/0.png", "cat/sub/0.png",
"cat/", "cat/..", "cat/.",
         "cat\\0.png", "cat/0.py", "cat/.htaccess", "cat/x.png\0", "cat/" + "x" * 300 + ".png", "0.png", "C:/0.png")  # fmt: skip


def manifests(made: Material) -> Iterator[Trap]:
    header, line = made.manifest[:2]
    first = line.split(",")

    def rebuild(content: bytes) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            (folder / "manifest.csv").write_bytes(content)
            return ["synthesize", made.run, "--out", folder / "target", "--rebuild", folder / "manifest.csv"]

        return set_up

    def with_value(column: str, value: str) -> bytes:
        values = list(first)
        values[COLUMNS.index(column)] = f'"{value}"'
        return "\n".join([header, ",".join(values), ""]).encode()

    for file in FILES:
        yield Trap(f"manifest, file {file[:20]!r}", rebuild(with_value("file", file)))
    for column, values in {
        "class": ("../cat", "zebra", "", "/", "cat/../.."), "seed": ("-1", "99999999999999999999", "x", "1.5", "", "9" * 5000),
        "truncation": ("nan", "inf", "-1", "0", "1e300", "x", ""), "checkpoint": ("0" * 16, "", "../../x"),
        "kept": ("maybe", "[]"),
    }.items():  # fmt: skip
        for value in values:
            yield Trap(f"manifest, {column} {value[:20]!r}", rebuild(with_value(column, value)))
    for title, content in {
        "empty": b"", "binary": bytes(range(256)) * 9, "header alone, of other columns": b"a,b\n",
        "no seeds": b"file,class,source\ncat/0.png,cat,synthetic\n",
        "twice": "\n".join([header, line, line, ""]).encode(), "quotes": header.encode() + b'\n"' + b"x" * 200_000,
        "short row": header.encode() + b"\ncat/0.png\n",
        "a program": b"#!/bin/sh\n",
    }.items():  # fmt: skip
        yield Trap(f"manifest: {title}", rebuild(content))


# What stages leave for one another

TITLE = "\x1b]0;a terminal's title\x07"
NO_JSON = {
    "empty": "", "deep": "[" * 100_000, "digits": '{"a": ' + "9" * 5000 + "}", "a list": "[]",
    "half a character": '{"sentence": "\\ud800"}',
}  # fmt: skip
DAMAGED_SIGNS: dict[str, Any] = {
    "a pid of text": {"pid": "x"}, "every process": {"pid": -1}, "a pid that is none": {"pid": 10**30},
    "digits": {"done": 10**40}, "no number": {"time": float("nan")}, "for ever": {"seconds_left": float("inf")},
    "a list": {"note": []}, "no unit": {"unit": None},
}  # fmt: skip


def put_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def put_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def artefacts(made: Material) -> Iterator[Trap]:
    """Records of runs, studies and interrupted syntheses, pipes and files without end."""
    no_files = {"a pipe": put_pipe, "a terabyte": put_sparse}

    def put(text: str) -> Callable[[Path], object]:
        return lambda path: path.write_text(text, encoding="utf-8")

    def study(command: str, change: Callable[[Path], object]) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            write_json(folder / "identity.json", {})
            change(folder / "study.json")
            return [command, folder]

        return set_up

    def run(file: str, change: Callable[[Path], object]) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            copy = Path(shutil.copytree(made.run, folder / "run"))
            (copy / file).parent.mkdir(exist_ok=True)
            change(copy / file)
            return ["synthesize", copy, "--out", folder / "target", "--per-class", "2", "--device", "cpu"]

        return set_up

    def journal(change: Callable[[Path], object]) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            write_text(folder / "manifest.csv", "\n".join([*made.manifest, ""]))
            change(folder / JOURNAL)
            return ["synthesize", made.run, "--out", folder / "target", "--rebuild", folder / "manifest.csv"]

        return set_up

    def sign(values: dict[str, Any]) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            write_json(folder / "run.json", {"complete": False, "source": "images"})
            known = {"pid": 1, "host": "h", "time": 0, "label": "fit", "done": 1, "total": 3, "unit": "", "note": ""}
            (folder / "status.json").write_text(json.dumps({**known, **values}))
            return ["status", folder]

        return set_up

    for title, change in {**{title: put(text) for title, text in NO_JSON.items()}, **no_files}.items():
        yield Trap(f"study.json: {title}", study("report", change))
        yield Trap(f"referees.json: {title}", run("curation/referees.json", change))
    for title, values in {
        "no folds": {}, "folds of text": {"folds": ["x"] * 24}, "folds in folds": {"folds": [[0]] * 24},
        "many folds": {"folds": [0] * 23 + [10**9]}, "folds of others": {"folds": [0] * 9},
        "weights": {"folds": [0] * 24, "weights": 3},
    }.items():  # fmt: skip
        yield Trap(f"referees.json: {title}", run("curation/referees.json", put(json.dumps(values))))
    told = json.dumps({"verdict": "helps", "sentence": TITLE})
    yield Trap("study.json: a terminal's commands", study("status", put(told)), "\\x1b]0;")
    yield Trap("status.json: a terminal's commands", sign({"ended": TITLE}), "\\x1b]0;")
    for title, values in DAMAGED_SIGNS.items():
        yield Trap(f"status.json: {title}", sign(values), "stopped")
    for title, change in {"deep": put("[" * 100_000 + "\n"), "a list": put("[]\n"), **no_files}.items():
        yield Trap(f"journal: {title}", journal(change))
    for file in ("recipe.yaml", "data/index.csv", "data/images.npy", "members/joint/member.json"):
        yield Trap(f"pipe: {file}", run(file, put_pipe))
    yield from half_syntheses(made)


def half_syntheses(made: Material) -> Iterator[Trap]:
    """States from which a synthesis would go on: what they name is cut, written to and removed."""

    def plant(halfway: Callable[[list[Tally]], Halfway], link: str = "") -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            how = {"parquet": False, "raw": True, "shards": True}
            request = open_request(made.run, {"synthesize": {"per_class": 2}}, None, None, "cpu", **how)
            partial = folder / ".target.partial"
            for path in (partial, folder / "victims"):
                path.mkdir()
            for name in ("victim", "victims/synthetic-000000.png", ".target.partial/shard-000000.tar"):
                (folder / name).write_text("of somebody")
            (partial / TEMPORARY).write_text(f"{made.manifest[0]}\n")
            if link:
                (partial / link).unlink()
                (partial / link).symlink_to(folder / "victim")
            tallies = [Tally(name, asked) for name, asked in request.counts.items()]
            save_halfway(partial, describe_request(request), halfway(tallies))
            arguments = ["--per-class", "2", "--raw", "--shards", "--device", "cpu"]
            return ["synthesize", made.run, "--out", folder / "target", *arguments]

        return set_up

    def renamed(tallies: list[Tally]) -> Halfway:
        tallies[0].class_name = "../victims"
        return Halfway(tallies, 10)

    for title, shard in {
        "that leads out": Shard("../victim"), "at the root": Shard("/dev/null"), "of another name": Shard("manifest.csv"),
        "of fewer bytes than none": Shard("shard-000000.tar", 0, -1),
    }.items():  # fmt: skip

        def with_shard(tallies: list[Tally], shard: Shard = shard) -> Halfway:
            return Halfway(tallies, 10, [shard])

        yield Trap(f"half synthesis: a shard {title}", plant(with_shard))
    yield Trap("half synthesis: a class that leads out", plant(renamed))
    yield Trap("half synthesis: a size", plant(lambda tallies: Halfway(tallies, -1)))
    for link in (TEMPORARY, "shard-000000.tar"):
        yield Trap(f"half synthesis: a link {link}", plant(lambda tallies: Halfway(tallies, 10), link))
