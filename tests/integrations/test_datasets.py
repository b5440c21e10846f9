"""Real and synthetic folders as one Dataset: which images, how many, how they are transformed."""

import numpy as np
import pytest
import torch
from folders import read, write_images, write_synthetic
from PIL import Image
from torch.utils.data import DataLoader

from ganaug import AugmentedDataset, GanaugError


@pytest.fixture
def folders(tmp_path):
    """Real: 4 cats, 2 dogs. Synthetic: 6 of each, and one real image that the manifest lists as well."""
    real = write_images(tmp_path / "real", {"train/cat": 4, "train/dog": 2, "test/cat": 3})
    synthetic = write_synthetic(tmp_path / "synthetic", {"cat": 6, "dog": 6})
    Image.open(real / "train/cat/0.png").save(synthetic / "cat/6.png")
    with (synthetic / "manifest.csv").open("a") as file:
        file.write("cat/6.png,cat,real,\n")
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


@pytest.mark.parametrize("megabytes", [256, 0, 0.01])
def test_every_image_is_that_of_its_file(folders, megabytes):
    dataset = AugmentedDataset(*folders, transform=np.asarray, megabytes=megabytes)
    assert [len(part.items.kept) for part in (dataset._real, dataset._synthetic)] == {
        256: [6, 12],
        0: [0, 0],
        0.01: [3, 3],
    }[megabytes]
    for index, (path, _) in enumerate(dataset.samples):
        np.testing.assert_array_equal(dataset[index][0], read(path))


def test_what_a_caller_does_to_an_image_does_not_last(folders):
    dataset = AugmentedDataset(*folders, transform=lambda image: image.paste(0, (0, 0, 24, 24)) or np.asarray(image))
    assert dataset[0][0].max() == 0
    dataset.transform = np.asarray
    assert dataset[0][0].max() > 0


def test_without_a_transform_images_are_tensors(folders):
    image, label = AugmentedDataset(*folders)[-1]
    assert image.shape == (3, 24, 24) and image.dtype == torch.float32 and label == 1
    assert 0 <= image.min() < image.max() <= 1
    assert torch.equal(image[0], image[2])
    gray = AugmentedDataset(*folders, mode="L")
    assert {gray[index][0].shape for index in (0, -1)} == {(1, 24, 24)}


def test_images_are_upright_and_on_white_as_the_gan_saw_them(folders):
    real, synthetic = folders
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(real / "train/cat/0.png").save(real / "train/cat/0.png", exif=exif)
    Image.new("RGBA", (24, 24), (0, 0, 0, 0)).save(real / "train/cat/1.png")
    dataset = AugmentedDataset(real, synthetic, transform=np.asarray)
    np.testing.assert_array_equal(dataset[0][0], np.rot90(read(real / "train/cat/0.png"), -1))
    assert dataset[1][0].min() == 255


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


def test_making_one_leaves_torchs_random_numbers_as_they_are(folders):
    from torchvision.transforms import v2

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    AugmentedDataset(*folders, transform=v2.Compose([v2.RandomCrop(8), v2.PILToTensor()]))
    assert torch.equal(torch.rand(4), expected)


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
    plain = AugmentedDataset(*folders, transform=np.asarray)
    flips = set()
    for index in range(len(dataset)):
        image, result = plain[index][0], dataset[index][0]
        flipped = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
        flips |= {k for k, each in enumerate(flipped) if (result == each).all()}
    assert flips == {0, 1, 2, 3}


def test_a_single_albumentations_transform(folders):
    import albumentations as A

    assert AugmentedDataset(*folders, transform=A.Resize(8, 8))[0][0].shape == (8, 8, 3)


# refusals


def test_unknown_synthetic_classes(folders, tmp_path):
    with pytest.raises(GanaugError, match="do not have: dog"):
        AugmentedDataset(write_images(tmp_path / "cats", {"cat": 2}), folders[1])


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "CMYK"}, "mode must be 'RGB' or 'L'"),
        ({"seed": -1}, "seed must be 0 or more; got -1"),
        ({"classes": ["cat", "dog"]}, "is a folder, which names its own"),
        ({"schedule": lambda epoch: 2}, "share from 0 to 1; got 2 for epoch 0"),
    ],
)
def test_impossible_options(folders, options, message):
    with pytest.raises(GanaugError, match=message):
        AugmentedDataset(*folders, **options)


def test_what_is_no_synthetic_folder(folders):
    with pytest.raises(GanaugError, match=r"got int\. Of a run or a Generator, make ganaug\.GeneratorDataset"):
        AugmentedDataset(folders[0], 7)


def test_a_real_zip_is_refused(folders, tmp_path):
    (tmp_path / "real.zip").write_bytes(b"")
    with pytest.raises(GanaugError, match="unpack"):
        AugmentedDataset(tmp_path / "real.zip", folders[1])


def test_images_that_would_not_fit_into_a_batch(folders, tmp_path):
    small = write_synthetic(tmp_path / "small", {"cat": 2}, size=16)
    with pytest.raises(GanaugError, match=r"Tensor \(3, 24, 24\), the synthetic ones as .*\(3, 16, 16\).*resizes"):
        AugmentedDataset(folders[0], small)
    AugmentedDataset(folders[0], small, transform=lambda image: image)  # of PIL images the caller makes batches


@pytest.mark.parametrize("megabytes", [256, 0])
def test_an_unreadable_image_is_named(folders, megabytes):
    real, synthetic = folders
    (real / "train/cat/0.png").write_text("text")
    with pytest.raises(GanaugError, match=r"0\.png cannot be read: not an image"):
        AugmentedDataset(real, synthetic, megabytes=megabytes)
