"""Classifiers of torchvision's: what they are shown, where their weights come from, and which files are refused."""

import io
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torchvision.models import get_model

from ganaug.classify.backbones import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    TorchvisionClassifier,
    build_torchvision,
    read_weights,
    refuse_unfit,
)
from ganaug.classify.training import Diet, Labeled, Mixing, Training, predict, train_classifier
from ganaug.errors import GanaugError

CPU = torch.device("cpu")
HEAD = {"fc.weight", "fc.bias"}


def differing(first, second):
    return {name for name, value in first.items() if not torch.equal(value, second[name])}


def save(weights, path):
    save_file(weights, path) if path.suffix == ".safetensors" else torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def weights_of():
    """`weights_of("resnet18")`: a state dict of a model for seven classes, as somebody else has trained it."""
    with torch.random.fork_rng():
        torch.manual_seed(77)
        return {name: get_model(name, weights=None, num_classes=7).state_dict() for name in ("resnet18", "resnet34")}


class Watching(torch.nn.Module):
    """Keeps what it is given."""

    def forward(self, images):
        self.seen = images
        return images.mean(dim=(2, 3))


def test_the_model_sees_color_of_the_wanted_size_normalized_as_imagenet():
    mean, deviation = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    classifier = TorchvisionClassifier(Watching(), 16)
    classifier(images)
    np.testing.assert_allclose(classifier.model.seen, ((images.numpy() + 1) / 2 - mean) / deviation, atol=1e-5)
    larger = TorchvisionClassifier(Watching(), 40)
    flat = torch.tensor([-1.0, 0.0, 1.0])[:, None, None].expand(1, 3, 16, 16)
    larger(flat)
    assert larger.model.seen.shape == (1, 3, 40, 40)
    expected = (np.array([0.0, 0.5, 1.0])[:, None, None] - mean) / deviation
    np.testing.assert_allclose(larger.model.seen[0], np.broadcast_to(expected, (3, 40, 40)), atol=1e-5)


def test_auxiliary_logits_are_left_aside():
    class Auxiliary(Watching):
        def forward(self, images):
            return SimpleNamespace(logits=super().forward(images), aux_logits=None)

    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(TorchvisionClassifier(Auxiliary(), 16)(images), TorchvisionClassifier(Watching(), 16)(images))


def test_a_gray_image_counts_as_a_color_one():
    model = build_torchvision("resnet18", 3, 64, None, 0).eval()
    gray = torch.rand(2, 1, 16, 16) * 2 - 1
    with torch.inference_mode():
        logits = model(gray)
        torch.testing.assert_close(logits, model(gray.repeat(1, 3, 1, 1)))
    assert logits.shape == (2, 3) and not torch.allclose(logits[0], logits[1])


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    once = build_torchvision("resnet18", 3, 64, None, 5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert not differing(once, build_torchvision("resnet18", 3, 64, None, 5).state_dict())
    assert {f"model.{name}" for name in HEAD} <= differing(
        once, build_torchvision("resnet18", 3, 64, None, 6).state_dict()
    )


def test_it_is_trained_repeatably_even_with_dropout():
    rng = np.random.default_rng(0)
    data = Labeled(rng.integers(0, 256, (8, 1, 16, 16), dtype=np.uint8), np.arange(8) % 2)
    training, mixing = Training(2, 4, 1e-3, 0.05, 0.1, "fp32"), Mixing(0.0, 0.0, 0.0)

    def probabilities(before, seed):
        torch.manual_seed(before)
        model = build_torchvision("squeezenet1_1", 2, 64, None, seed)
        train_classifier(model, Diet(data), training, mixing, "none", seed, CPU)
        return predict(model, data.images, CPU)

    once = probabilities(1, 0)
    np.testing.assert_array_equal(probabilities(2, 0), once)
    assert not np.array_equal(probabilities(1, 1), once)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_another_task_fill_all_but_the_head(weights_of, tmp_path, suffix):
    path = save(weights_of["resnet18"], tmp_path / f"weights{suffix}")
    filled = build_torchvision("resnet18", 3, 64, path, 5).model.state_dict()
    drawn = build_torchvision("resnet18", 3, 64, None, 5).model.state_dict()
    assert filled["fc.weight"].shape == (3, 512)
    assert differing({name: filled[name] for name in HEAD}, drawn) == set()
    assert differing({name: value for name, value in filled.items() if name not in HEAD}, weights_of["resnet18"]) == (
        set()
    )
    refuse_unfit("resnet18", 3, 64, path)


def test_weights_without_a_head_or_counters_are_enough(weights_of, tmp_path):
    """Torchvision's own files of 2017 have no `num_batches_tracked`."""
    left = ("num_batches_tracked", "fc.weight", "fc.bias")
    few = {name: value for name, value in weights_of["resnet18"].items() if not name.endswith(left)}
    assert len(few) == 100
    model = build_torchvision("resnet18", 3, 64, save(few, tmp_path / "old.pth"), 5).model
    assert differing(few, model.state_dict()) == set()


def test_another_kind_of_head_is_left_aside(weights_of, tmp_path):
    other = {name: value for name, value in weights_of["resnet18"].items() if name not in HEAD}
    other |= {"fc.0.weight": torch.zeros(64, 512), "fc.2.weight": torch.zeros(7, 64)}
    model = build_torchvision("resnet18", 3, 64, save(other, tmp_path / "w.pth"), 5).model
    assert torch.equal(model.state_dict()["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize(
    ("name", "of", "named"),
    [
        ("resnet34", "resnet18", "layer1.2.bn1.bias"),  # lacks blocks
        ("resnet18", "resnet34", "layer1.2.bn1.bias"),  # has more blocks, and all that resnet18 needs
        ("squeezenet1_1", "resnet18", "features.0.bias"),
    ],
)
def test_weights_of_another_model_are_refused(weights_of, tmp_path, name, of, named):
    path = save(weights_of[of], tmp_path / "weights.pth")
    with pytest.raises(GanaugError) as raised:
        refuse_unfit(name, 3, 64, path)
    message = str(raised.value)
    assert str(path) in message and f"not {name}'s" in message and named in message and "\n" not in message


def test_weights_of_the_wrong_shape_are_refused(weights_of, tmp_path):
    wrong = weights_of["resnet18"] | {"layer3.0.conv1.weight": torch.zeros(256, 128, 1, 1)}
    with pytest.raises(GanaugError, match=r"not resnet18's: they have none that fit layer3\.0\.conv1\.weight"):
        build_torchvision("resnet18", 3, 64, save(wrong, tmp_path / "w.pth"), 0)


class Intruder:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors"])
def test_code_in_a_file_is_refused_and_never_run(tmp_path, how, name):
    path, made = tmp_path / name, tmp_path / "made"
    how({"fc.weight": torch.zeros(2), "more": Intruder(made)}, path)
    with pytest.raises(GanaugError, match="cannot be read") as raised:
        read_weights(path)
    assert not made.exists()
    assert "\n" not in str(raised.value) and "weights_only" not in str(raised.value)
    content = path.read_bytes()
    torch.load(io.BytesIO(content), weights_only=False) if how is torch.save else pickle.loads(content)
    assert made.exists()  # it would have been


def stored(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


GOOD = stored({"weight": torch.ones(3)})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"hello world\n", b"\x00" * 100, GOOD[: len(GOOD) // 2], b"version https://git-lfs.github.com/spec/v1\n"],
    ids=["empty", "text", "zeros", "cut", "pointer"],
)
def test_a_file_that_is_none_of_weights_is_refused(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(GanaugError, match=f"{path} cannot be read") as raised:
        read_weights(path)
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore")  # of torch, about the kind of pickle
@hypothesis_settings(max_examples=150)
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda tail: b"\x80\x02}q\x00X" + tail)))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "bytes.pth"
    path.write_bytes(content)
    with pytest.raises(GanaugError):
        read_weights(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(GanaugError, match=f"{path} cannot be read"):
            read_weights(path)


@pytest.mark.parametrize("value", [{}, [torch.zeros(2)], torch.zeros(2), {"state_dict": {"a": torch.zeros(2)}}])
def test_what_is_no_state_dict_is_refused(tmp_path, value):
    path = tmp_path / "weights.pth"
    path.write_bytes(stored(value))
    with pytest.raises(GanaugError, match="must be a state dict"):
        read_weights(path)


def test_files_are_read_as_they_were_written(tmp_path):
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    for name in ("w.pth", "w.safetensors"):
        found = read_weights(save(weights, tmp_path / name))
        assert found.keys() == weights.keys() and differing(weights, found) == set()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet81", "did you mean resnet18"),
        ("efficientnet", "did you mean efficientnet_"),
        ("discriminatr", "did you mean discriminator"),
        ("fcn_resnet50", "did you mean"),  # segments, and does not classify
        ("xyz", "expected discriminator or a name such as resnet18"),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(name, said):
    with pytest.raises(GanaugError) as raised:
        refuse_unfit(name, 3, 64, None)
    assert f"{name!r} is not known: {said}" in str(raised.value)


@pytest.mark.filterwarnings("ignore:The default weight initialization")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("squeezenet1_1", 16),
        ("vit_b_32", 64),  # asserts its size
        ("inception_v3", 96),  # only its auxiliary head, which judges in training alone, needs more
    ],
)
def test_a_model_that_needs_larger_images_is_refused_with_the_advice(name, size):
    with pytest.raises(GanaugError, match=r"Set compare\.classifier_size, for example to 224") as raised:
        refuse_unfit(name, 3, size, None)
    assert f"{name} cannot take images of {size} pixels" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_a_model_that_is_not_refused_takes_such_images(name):
    refuse_unfit(name, 3, 64, None)
    logits = build_torchvision(name, 3, 64, None, seed=0)(torch.zeros(2, 1, 64, 64))
    assert logits.shape == (2, 3) and logits.isfinite().all()
