"""Runs, checkpoints, classifiers and generators that mean harm; see traps.py."""

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from traps import Arguments, Material, Trap, zip_of

from ganaug.runs import write_text

# Runs


def runs(made: Material) -> Iterator[Trap]:
    def rebuild(file: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            copy = Path(shutil.copytree(made.run, folder / "run"))
            (copy / file).write_bytes(change((copy / file).read_bytes()))
            write_text(folder / "manifest.csv", "\n".join([*made.manifest, ""]))
            return ["synthesize", copy, "--out", folder / "target", "--rebuild", folder / "manifest.csv"]

        return set_up

    def json_with(**values: Any) -> Callable[[bytes], bytes]:
        return lambda content: json.dumps({**json.loads(content), **values}).encode()

    def json_text(old: str, new: str) -> Callable[[bytes], bytes]:
        return lambda content: content.replace(old.encode(), new.encode(), 1)

    for title, change in {
        "a newer schema": json_with(schema=99), "schema of text": json_with(schema="x"),
        "classes that lead out": json_with(class_names=["../../out", "dog"]),
        "classes that are paths": json_with(class_names=["/", "dog"]), "classes of numbers": json_with(class_names=[1,
        2]), "no classes": json_with(class_names=[]),
        "a class twice": json_with(class_names=["cat", "cat"]), "strategy": json_with(strategy="__import__('os')"),
        "strategy of a list": json_with(strategy=[]),
        "counts": json_with(counts=3), "counts of text": json_with(counts={"train": {"cat": "x", "dog": 1}}),
        "members that lead out": json_with(members=["../.."]),
        "digits": lambda content: b'{"complete": ' + b"9" * 5000 + b"}", "deep": lambda content: b"[" * 100_000,
        "a list": lambda content: b"[]",
        "keys twice": json_text('"class_names"', '"class_names": ["cat", "dog"], "class_names": ["../out", "dog"], "a"'),
        "empty": lambda content: b"",
        "binary": lambda content: bytes(range(256)),
    }.items():  # fmt: skip
        yield Trap(f"run.json: {title}", rebuild("run.json", change))
    for key, values in {
        "image_size": (10**9, -16, 10**400, "x", 1.5), "width": (10**9, 0, "x", None), "latent_size": (10**12, -1),
        "channels": (10**9, 0),
        "class_counts": ([], 3, "x", [1] * 100_000), "family": ("mixing", ["x"]),
    }.items():  # fmt: skip
        for value in values:

            def change(content: bytes, key: str = key, value: Any = value) -> bytes:
                found = json.loads(content)
                return json.dumps({**found, "shape": {**found["shape"], key: value}}).encode()

            yield Trap(f"member.json: {key} {str(value)[:12]}", rebuild("members/joint/member.json", change))
    yield Trap("member.json: shape", rebuild("members/joint/member.json", json_with(shape=[])))
    for title, spoiled in spoiled_weights(made.run / "members/joint/generator.safetensors", made.canary).items():

        def spoil(_: bytes, spoiled: bytes = spoiled) -> bytes:
            return spoiled

        yield Trap(f"generator.safetensors: {title}", rebuild("members/joint/generator.safetensors", spoil))


def spoiled_weights(path: Path, canary: Path) -> dict[str, bytes]:
    whole = path.read_bytes()
    length = struct.unpack_from("<Q", whole)[0]
    header = json.loads(whole[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]

    def with_header(found: Any) -> bytes:
        text = found if isinstance(found, bytes) else json.dumps(found).encode()
        return struct.pack("<Q", len(text)) + text + whole[8 + length :]

    def with_tensor(**values: Any) -> bytes:
        return with_header({**header, names[0]: {**header[names[0]], **values}})

    return {
        "empty": b"", "cut": whole[: len(whole) // 2], "a long header": struct.pack("<Q", 2**63) + whole[8:],
        "no header": struct.pack("<Q", 0) + whole[8:],
        "offsets": with_tensor(data_offsets=[0, 2**62]), "offsets turned": with_tensor(data_offsets=[8, 0]),
        "a shape": with_tensor(shape=[2**40, 2**40]),
        "a negative shape": with_tensor(shape=[-1]), "a kind": with_tensor(dtype="PICKLE"),
        "a name": with_header({"../../x": header[names[0]]}),
        "deep": with_header(b"[" * 50_000), "a pickle": pickle.dumps(Payload(f"touch {canary}")),
        "a zip": zip_of([("data.pkl", pickle.dumps(Payload(f"touch {canary}")))]),
    }  # fmt: skip


# Checkpoints


@dataclass
class Payload:
    """What runs a command where it is unpickled."""

    command: str

    def __reduce__(self) -> Any:
        import os

        return os.system, (self.command,)


class Evaluated(Payload):
    def __reduce__(self) -> Any:
        return eval, (f"__import__('os').system({self.command!r})",)


class Built(Payload):
    def __reduce__(self) -> Any:
        import subprocess

        return subprocess.Popen, (["sh", "-c", self.command],)


def payloads(canary: Path) -> Iterator[tuple[str, Any]]:
    command = f"touch {canary}"
    for kind in (Payload, Evaluated, Built):
        yield kind.__name__, kind(command)
        yield f"{kind.__name__} in a dict", {"now": kind(command), "good": {}}
        yield (
            f"{kind.__name__} beside tensors",
            {"now": {"networks": [{"weight": torch.zeros(2)}], "rng": kind(command)}, "good": {}},
        )
    yield "a list", []
    yield "a tensor", torch.zeros(3)
    yield "empty", {}
    yield "other keys", {"now": {}, "good": {}}
    yield "other kinds", {"now": {"networks": 3}, "good": 3}
    yield "a module", torch.nn.Linear(2, 2)


def checkpoints(made: Material) -> Iterator[Trap]:
    def opened(action: str, name: str, content: bytes) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            (folder / name).write_bytes(content)
            return [action, folder / name]

        return set_up

    for title, value in payloads(made.canary):
        for kind, new in (("zip", True), ("old", False)):
            file = io.BytesIO()
            torch.save(value, file, _use_new_zipfile_serialization=new)
            yield Trap(f"state.pt, {kind}: {title}", opened("load_state", "state.pt", file.getvalue()))
            if kind == "zip" and title not in ("empty", "other keys", "other kinds"):
                yield Trap(f"weights.pth, {kind}: {title}", opened("read_weights", "weights.pth", file.getvalue()))
    file = io.BytesIO()
    torch.save({"now": torch.zeros(2**22), "good": {}}, file)
    with zipfile.ZipFile(file) as archive:
        packed = zip_of([(member.filename, archive.read(member)) for member in archive.infolist()])
    yield Trap("state.pt, packed", opened("load_state", "state.pt", packed))
    for title, content in (
        ("nothing", b""),
        ("cut", file.getvalue()[:5000]),
        ("text", b"state"),
        ("a pickle", pickle.dumps(Payload(f"touch {made.canary}"), 5)),
    ):
        yield Trap(f"state.pt: {title}", opened("load_state", "state.pt", content))


# Files of classifiers, folders of generators


def classifiers(made: Material) -> Iterator[Trap]:
    def predict(content: bytes) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            (folder / "classifier.safetensors").write_bytes(content)
            return ["predict", folder / "classifier.safetensors", made.images, "--out", folder / "target.csv"]

        return set_up

    for title, content in spoiled_weights(made.classifier, made.canary).items():
        yield Trap(f"classifier: {title}", predict(content))
    with safe_open(made.classifier, "pt") as file:
        card = json.loads(file.metadata()["ganaug"])
    for key, values in {
        "image_size": (10**9, -1, "x"), "channels": (10**9, 2), "resize": ("x", 3), "model": ("__import__('os')",
        "resnet18", 3), "model_size": (10**9, 0),
        "class_names": ([], 3, [1], ["a"] * 100_000), "schema": (99, None), "more": (1,),
    }.items():  # fmt: skip
        for value in values:

            def set_up(folder: Path, key: str = key, value: Any = value) -> Arguments:
                path = folder / "classifier.safetensors"
                save_file(load_file(made.classifier), path, {"ganaug": json.dumps({**card, key: value})})
                return ["predict", path, made.images, "--out", folder / "target.csv"]

            yield Trap(f"classifier, {key} {str(value)[:12]}", set_up)
    for title, text in (("deep", "[" * 100_000), ("digits", "9" * 5000), ("a list", "[]")):

        def set_up_text(folder: Path, text: str = text) -> Arguments:
            path = folder / "classifier.safetensors"
            save_file(load_file(made.classifier), path, {"ganaug": text})
            return ["predict", path, made.images, "--out", folder / "target.csv"]

        yield Trap(f"classifier, card: {title}", set_up_text)


def generators(made: Material) -> Iterator[Trap]:
    def opened(file: str, content: bytes) -> Callable[[Path], Arguments]:
        def set_up(folder: Path) -> Arguments:
            copy = Path(shutil.copytree(made.generator, folder / "generator"))
            (copy / file).write_bytes(content)
            return ["open_generator", copy]

        return set_up

    config = json.loads((made.generator / "config.json").read_text())
    shape = config["members"][0]["shape"]
    changes: dict[str, dict[str, Any]] = {
        "classes that lead out": {"class_names": ["../out", "dog"]}, "classes": {"class_names": 3},
        "members": {"members": []}, "member": {"members": [3]},
        "size": {"members": [{**config["members"][0], "shape": {**shape, "image_size": 2**30}}]},
        "width": {"members": [{**config["members"][0], "shape": {**shape, "width": 10**9}}]},
        "latent": {"members": [{**config["members"][0], "shape": {**shape, "latent_size": 10**12}}]},
        "shape": {"members": [{**config["members"][0], "shape": "x"}]},
        "labels": {"members": [{**config["members"][0], "labels": [7, 8, 9]}]},
    }  # fmt: skip
    for title, changed in changes.items():
        yield Trap(
            f"generator, config.json: {title}", opened("config.json", json.dumps({**config, **changed}).encode())
        )
    for title, content in (
        ("deep", b"[" * 100_000),
        ("digits", b'{"members": ' + b"9" * 5000 + b"}"),
        ("empty", b""),
        ("a list", b"[]"),
    ):
        yield Trap(f"generator, config.json: {title}", opened("config.json", content))
    for title, content in spoiled_weights(made.generator / "model.safetensors", made.canary).items():
        yield Trap(f"generator, weights: {title}", opened("model.safetensors", content))
