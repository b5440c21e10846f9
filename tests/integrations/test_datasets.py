import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ganaug.data.augmented import AugmentedDataset
from ganaug.errors import GanaugError

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"


@pytest.fixture
def folders(make_folder):
    """Real: 4 cats, 2 dogs. Synthetic: 6 of each, and one real image that the manifest lists as well."""
    real = make_folder({"train/cat": 4, "train/dog": 2, "test/cat": 3}, name="real")
    synthetic = make_folder({"cat": 7, "dog": 6}, name="synthetic", mode="L")
    rows = ["file,class,source,seed", "cat/6.png,cat,real,"]
    rows += [f"{name}/{index}.png,{name},synthetic,{index}" for index in reversed(range(6)) for name in ("cat", "dog")]
    (synthetic / "manifest.csv").write_text("\n".join(rows) + "\n")
    return real, synthetic


def count_synthetic(dataset):
    labels = [label for label, synthetic in zip(dataset.targets, dataset.is_synthetic, strict=True) if synthetic]
    return np.bincount(labels, minlength=len(dataset.classes)).tolist()


def test_real_images_come_first_then_all_synthetic(folders):
    dataset = AugmentedDataset(*folders)
    assert dataset.classes == ["cat", "dog"] and dataset.class_to_idx == {"cat": 0, "dog": 1}
    assert len(dataset) == 6 + 12
    assert dataset.is_synthetic == [False] * 6 + [True] * 12
    assert dataset.targets == [label for _, label in dataset.samples] == [dataset[index][1] for index in range(18)]
    assert count_synthetic(dataset) == [6, 6]
    assert not any("/real/test/" in path for path, _ in dataset.samples)


def test_without_a_transform_images_are_rgb_tensors(folders):
    image, label = AugmentedDataset(*folders)[-1]
    assert image.shape == (3, 24, 24) and image.dtype == torch.float32 and label == 1
    assert 0 <= image.min() < image.max() <= 1
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"ratio": 1}, [4, 2]),
        ({"ratio": 0.6}, [2, 1]),
        ({"ratio": {"dog": 2.0}}, [6, 4]),
        ({"cap": 3}, [3, 3]),
        ({"cap": {"cat": 0}}, [0, 6]),
        ({"ratio": 1, "cap": 3}, [3, 2]),
        ({"ratio": 100}, [6, 6]),
        ({"cap": 0}, [0, 0]),
    ],
)
def test_ratio_and_cap(folders, limits, expected):
    assert count_synthetic(AugmentedDataset(*folders, **limits)) == expected


def test_synthetic_images_are_taken_in_the_order_of_the_manifest(folders):
    dataset = AugmentedDataset(*folders, cap=2)
    names = [path.rpartition("synthetic/")[2] for path, _ in dataset.samples[6:]]
    assert names == ["cat/5.png", "dog/5.png", "cat/4.png", "dog/4.png"]


def test_torchvision_transforms(folders):
    from torchvision.transforms import v2

    transform = v2.Compose([v2.Resize((8, 8)), v2.PILToTensor()])
    assert AugmentedDataset(*folders, transform=transform)[0][0].shape == (3, 8, 8)


def noise():
    import albumentations as A

    return A.Compose([A.RandomBrightnessContrast(p=1), A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)])


def images_of(dataset, workers=0):
    return np.stack(
        [image.numpy() for images, _ in DataLoader(dataset, batch_size=4, num_workers=workers) for image in images]
    )


def test_albumentations_does_not_repeat_itself_and_is_repeatable(folders):
    dataset = AugmentedDataset(*folders, transform=noise(), seed=3)
    first = images_of(dataset)
    assert first.shape == (18, 24, 24, 3)
    np.testing.assert_array_equal(images_of(dataset, workers=2), first)
    dataset.set_epoch(1)
    second = images_of(dataset)
    assert all((a != b).any() for a, b in zip(first, second, strict=True))
    dataset.set_epoch(0)
    np.testing.assert_array_equal(images_of(dataset), first)
    other = AugmentedDataset(*folders, transform=noise(), seed=4)
    assert (images_of(other) != first).any()


def test_parts_of_an_albumentations_transform_draw_independently(folders):
    import albumentations as A

    dataset = AugmentedDataset(*folders, transform=A.ReplayCompose([A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]))
    flips = set()
    for index in range(len(dataset)):
        dataset[index]
        image = np.asarray(AugmentedDataset(*folders)[index][0].permute(1, 2, 0) * 255).round().astype(np.uint8)
        result = dataset[index][0]
        flips |= {
            k
            for k, flipped in enumerate([image, image[:, ::-1], image[::-1], image[::-1, ::-1]])
            if (result == flipped).all()
        }
    assert flips == {0, 1, 2, 3}


def test_a_single_albumentations_transform(folders):
    import albumentations as A

    assert AugmentedDataset(*folders, transform=A.Resize(8, 8))[0][0].shape == (8, 8, 3)


def test_unknown_synthetic_classes(folders, make_folder):
    _, synthetic = folders
    with pytest.raises(GanaugError, match="do not have: dog"):
        AugmentedDataset(make_folder({"cat": 2}, name="cats"), synthetic)


def test_synthetic_folder_without_manifest_or_files(folders):
    real, synthetic = folders
    (synthetic / "cat/0.png").unlink()
    with pytest.raises(GanaugError, match="names 1 files that do not exist"):
        AugmentedDataset(real, synthetic)
    (synthetic / "manifest.csv").unlink()
    with pytest.raises(GanaugError, match=r"no manifest\.csv"):
        AugmentedDataset(real, synthetic)


@pytest.mark.parametrize("limits", [{"ratio": -1}, {"cap": {"mouse": 3}}, {"ratio": {"cat": float("nan")}}])
def test_impossible_limits(folders, limits):
    with pytest.raises(GanaugError, match="0 or more, for classes among cat, dog"):
        AugmentedDataset(*folders, **limits)


def test_a_real_zip_is_refused(folders, make_zip):
    real, synthetic = folders
    with pytest.raises(GanaugError, match="unpack"):
        AugmentedDataset(make_zip(real), synthetic)


def test_an_unreadable_image_is_named(folders):
    real, synthetic = folders
    (real / "train/cat/0.png").write_text("text")
    with pytest.raises(GanaugError, match=r"0\.png cannot be read: not an image"):
        AugmentedDataset(real, synthetic)[0]
