"""The transform that replaces images by synthetic ones, in pipelines of albumentations."""

import importlib.util
import json
import sys

import numpy as np
import pytest
from folders import read, write_synthetic
from torch.utils.data import DataLoader, Dataset

from ganaug import GanaugError, GANReplace
from ganaug.integrations import replace

A = pytest.importorskip("albumentations")

IMAGE = np.full((24, 24, 3), 7, np.uint8)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("replace") / "synthetic", {"cat": 5, "dog": 4}, mode="RGB")


def made(folder, name):
    return {read(path).tobytes() for path in (folder / name).glob("*.png")}


@pytest.mark.parametrize("label", ["cat", 0, np.int64(0)])
def test_an_image_becomes_one_of_its_class(synthetic, label):
    transform = GANReplace(synthetic, p=1)
    transform.set_random_seed(0)
    seen = {transform(image=IMAGE, label=label)["image"].tobytes() for _ in range(60)}
    assert seen == made(synthetic, "cat")


def test_p_is_the_share_of_the_images_that_are_replaced(synthetic):
    transform = A.Compose([GANReplace(synthetic, p=0.3)], seed=0)
    kept = [(transform(image=IMAGE, label="dog")["image"] == IMAGE).all() for _ in range(400)]
    assert np.mean(kept) == pytest.approx(0.7, abs=0.07)
    for p, share in ((0, 1), (1, 0)):
        transform = GANReplace(synthetic, p=p)
        assert np.mean([(transform(image=IMAGE, label="dog")["image"] == IMAGE).all() for _ in range(9)]) == share


def test_it_works_within_a_pipeline(synthetic):
    transform = A.Compose([GANReplace(synthetic, p=1), A.HorizontalFlip(p=1), A.Resize(8, 8)], strict=True, seed=0)
    found = transform(image=IMAGE, label=1)
    assert found["image"].shape == (8, 8, 3) and found["label"] == 1
    flip = A.Compose([GANReplace(synthetic, p=1), A.HorizontalFlip(p=1)], seed=0)
    assert flip(image=IMAGE, label=1)["image"][:, ::-1].tobytes() in made(synthetic, "dog")


def test_albumentations_seed_repeats_it(synthetic):
    def draw(seed):
        transform = A.Compose(
            [A.OneOf([GANReplace(synthetic, p=0.8), A.NoOp()], p=0.9), A.VerticalFlip(p=0.5)], seed=seed
        )
        return np.stack([transform(image=IMAGE, label=k % 2)["image"] for k in range(30)])

    np.testing.assert_array_equal(draw(3), draw(3))
    assert (draw(3) != draw(4)).any()


@pytest.mark.parametrize("shape", [(24, 24, 3), (24, 24, 1), (24, 24), (48, 32, 3), (12, 20)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_shape_and_kind_stay(synthetic, shape, dtype):
    found = GANReplace(synthetic, p=1)(image=np.zeros(shape, dtype), label="cat")["image"]
    assert found.shape == shape and found.dtype == dtype
    assert found.max() > (50 if dtype == np.uint8 else 0.2) and found.max() <= (255 if dtype == np.uint8 else 1)


def test_float_images_are_the_same_in_0_to_1(synthetic):
    transform = GANReplace(synthetic, p=1)
    found = transform(image=IMAGE.astype(np.float32) / 255, label="dog")["image"]
    assert (found * 255).round().astype(np.uint8).tobytes() in made(synthetic, "dog")


def test_a_class_without_synthetic_images_stays(synthetic, tmp_path):
    few = write_synthetic(tmp_path / "few", {"cat": 2})
    (few / "dataset.json").write_text(json.dumps({"labels": [], "class_names": ["cat", "dog"]}))
    transform = GANReplace(few, p=1)
    assert (transform(image=IMAGE, label=1)["image"] == IMAGE).all()
    assert (transform(image=IMAGE, label=0)["image"] != IMAGE).any()


def test_it_is_serialised_with_its_folder(synthetic):
    whole = A.Compose([GANReplace(synthetic, p=1, label_key="kind", classes=["dog", "cat"], megabytes=0)])
    again = A.from_dict(json.loads(json.dumps(A.to_dict(whole))))
    for transform in (whole, again):
        transform.set_random_seed(5)
    one, other = ([each(image=IMAGE, kind=0)["image"] for _ in range(5)] for each in (whole, again))
    np.testing.assert_array_equal(one, other)
    assert one[0].tobytes() in made(synthetic, "dog")


def test_a_replay_shows_the_same_image(synthetic):
    with pytest.warns(UserWarning, match="ReplayMode"):
        transform = A.ReplayCompose([GANReplace(synthetic, p=1), A.HorizontalFlip(p=0.5)])
    found = transform(image=IMAGE, label="cat")
    with pytest.warns(UserWarning, match="ReplayMode"):
        again = A.ReplayCompose.replay(found["replay"], image=IMAGE, label="cat")
    np.testing.assert_array_equal(again["image"], found["image"])


class Constant(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.transform(image=IMAGE, label=index % 2)["image"], index % 2


def test_workers(synthetic):
    loader = DataLoader(Constant(GANReplace(synthetic, p=1)), batch_size=12, num_workers=2)
    images, labels = next(iter(loader))
    for image, label in zip(images.numpy(), labels.tolist(), strict=True):
        assert image.tobytes() in made(synthetic, ("cat", "dog")[label])


# refusals


@pytest.mark.parametrize("label", ["wolf", 2, -1, None, "0"])
def test_unknown_classes(synthetic, label):
    with pytest.raises(GanaugError, match=r"got label=.*: expected one of cat, dog, or its number"):
        GANReplace(synthetic, p=1)(image=IMAGE, label=label)


def test_numbers_that_could_mean_two_classes(tmp_path):
    folder = write_synthetic(tmp_path / "digits", {"9": 1, "10": 1}, mode="RGB")
    with pytest.raises(GanaugError, match=r"whether 0, 1, \.\.\. are 9, 10 or 10, 9 is open\. Tell with classes="):
        GANReplace(folder, p=1)(image=IMAGE, label=0)
    found = GANReplace(folder, p=1, classes=["10", "9"])(image=IMAGE, label=0)["image"]
    assert found.tobytes() in made(folder, "10")


@pytest.mark.parametrize("others", [{"mask": np.zeros((24, 24), np.uint8)}, {"bboxes": np.array([[0, 0, 1, 1]])}])
def test_annotations_of_an_image_that_is_gone(synthetic, others):
    with pytest.raises(GanaugError, match=f"got {next(iter(others))}, which would belong to an image that is gone"):
        GANReplace(synthetic, p=1)(image=IMAGE, label=0, **others)


@pytest.mark.parametrize("image", [np.zeros((24, 24, 4), np.uint8), np.zeros((24, 24), np.uint16)])
def test_images_of_other_kinds(synthetic, image):
    with pytest.raises(GanaugError, match=r"expected 1 or 3 channels, uint8 or float32"):
        GANReplace(synthetic, p=1)(image=image, label=0)


def test_without_a_label_albumentations_says_so(synthetic):
    with pytest.raises(ValueError, match=r"missing keys: \{'label'\}"):
        GANReplace(synthetic, p=1)(image=IMAGE)


def test_what_is_no_synthetic_folder(tmp_path):
    with pytest.raises(GanaugError, match=r"no manifest\.csv"):
        GANReplace(tmp_path)
    with pytest.raises(GanaugError, match="p must be from 0 to 1; got 2"):
        GANReplace(tmp_path, p=2)


def test_without_albumentations_it_says_what_to_install(synthetic, monkeypatch):
    monkeypatch.setitem(sys.modules, "albumentations", None)
    spec = importlib.util.spec_from_file_location("ganaug.integrations.replace_alone", replace.__file__)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    with pytest.raises(GanaugError, match=r"needs albumentations\. Install it: pip install 'ganaug\[albumentations\]'"):
        alone.GANReplace(synthetic)
