"""Data sets of other libraries in place of a folder."""

import numpy as np
import pytest
import torch
from folders import write_images, write_synthetic
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ganaug import AugmentedDataset, GanaugError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), dtype=np.uint8)
LABELS = [1, 0, 1, 0, 0, 1]
TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


class Pictures(Dataset):
    """As torchvision's CIFAR10."""

    def __init__(self, targets=LABELS, classes=("cat", "dog"), transform=None, mode="RGB", **attributes):
        self.targets, self.transform, self.mode = targets, transform, mode
        if classes is not None:
            self.classes = list(classes)
        self.__dict__ |= attributes

    def __len__(self):
        return 6

    def __getitem__(self, index):
        picture = Image.fromarray(PIXELS[index]).convert(self.mode)
        return (picture if self.transform is None else self.transform(picture)), int(self.targets[index])


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("folders") / "synthetic", {"cat": 3, "dog": 4})


def first_real(dataset, count):
    return np.stack([np.asarray(dataset[index][0]) for index in range(count)])


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_a_dataset_with_targets(synthetic, kind):
    dataset = AugmentedDataset(Pictures(kind(LABELS)), synthetic, ratio=1, transform=np.asarray)
    assert dataset.targets == [*LABELS, *[label for _, label in (dataset[index] for index in range(6, 12))]]
    assert dataset.classes == ["cat", "dog"] and not hasattr(dataset, "samples")
    assert dataset.targets[6:].count(0) == 3 and len(dataset) == 12
    np.testing.assert_array_equal(first_real(dataset, 6), PIXELS)


def test_a_datasets_own_transform_is_applied_to_synthetic_images_too(synthetic):
    dataset = AugmentedDataset(Pictures(transform=v2.Compose([v2.Resize(8), TO_TENSOR])), synthetic)
    assert {tuple(image.shape) for image, _ in dataset} == {(3, 8, 8)}
    assert dataset[6][0].dtype == torch.float32


def test_image_folder(synthetic, tmp_path):
    real = write_images(tmp_path / "real", {"cat": 3, "dog": 2})
    dataset = AugmentedDataset(ImageFolder(real, transform=TO_TENSOR), synthetic, cap=1)
    own = AugmentedDataset(real, synthetic, cap=1)
    assert dataset.targets == own.targets and dataset.class_to_idx == own.class_to_idx
    for mine, its in zip(dataset, own, strict=True):
        torch.testing.assert_close(mine[0], its[0])


def test_labels_decide_and_not_the_order_of_the_classes(synthetic):
    dataset = AugmentedDataset(Pictures(classes=["dog", "cat"]), synthetic, transform=np.asarray)
    assert dataset.targets[6:].count(0) == 4  # dogs


def test_subsets_of_subsets(synthetic):
    inner = Subset(Pictures(transform=np.asarray), [5, 4, 1, 0])
    dataset = AugmentedDataset(Subset(inner, np.array([0, 2])), synthetic)
    assert dataset.targets[:2] == [1, 0] and len(dataset) == 2 + 7
    np.testing.assert_array_equal(first_real(dataset, 2), PIXELS[[5, 1]])


def test_random_split(synthetic):
    part, _ = random_split(Pictures(), [4, 2], torch.Generator().manual_seed(0))
    dataset = AugmentedDataset(part, synthetic, transform=np.asarray)
    np.testing.assert_array_equal(first_real(dataset, 4), PIXELS[part.indices])
    assert dataset.targets[:4] == [LABELS[index] for index in part.indices]


def test_concatenated(synthetic):
    dataset = AugmentedDataset(
        ConcatDataset([Subset(Pictures(), [3, 0]), Pictures()]), synthetic, cap=0, transform=np.asarray
    )
    assert dataset.targets == [0, 1, *LABELS]
    np.testing.assert_array_equal(first_real(dataset, 8), PIXELS[[3, 0, *range(6)]])


def test_tensors_of_pixels(synthetic):
    tensors = TensorDataset(torch.from_numpy(PIXELS).permute(0, 3, 1, 2), torch.tensor(LABELS))
    dataset = AugmentedDataset(tensors, synthetic, classes=["cat", "dog"])
    np.testing.assert_array_equal((dataset[2][0] * 255).round().permute(1, 2, 0).numpy(), PIXELS[2])
    assert dataset[2][1] == 1 and dataset[-1][0].shape == (3, 24, 24)
    gray = AugmentedDataset(
        TensorDataset(tensors.tensors[0][:, :1], tensors.tensors[1]), synthetic, classes=["cat", "dog"]
    )
    np.testing.assert_array_equal((gray[2][0][1] * 255).round().numpy(), PIXELS[2, :, :, 0])


def test_gray_pictures(synthetic):
    dataset = AugmentedDataset(Pictures(mode="L", transform=TO_TENSOR), synthetic, mode="L")
    assert {tuple(image.shape) for image, _ in dataset} == {(1, 24, 24)}


def hugging_face(labels=LABELS, names=("cat", "dog")):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=list(names))})
    pictures = [Image.fromarray(pixels) for pixels in PIXELS]
    return datasets.Dataset.from_dict({"picture": pictures, "kind": labels}, features=features)


def test_hugging_face(synthetic):
    data = hugging_face()
    dataset = AugmentedDataset(data, synthetic, transform=np.asarray)
    assert dataset.targets[:6] == LABELS and dataset.classes == ["cat", "dog"]
    np.testing.assert_array_equal(first_real(dataset, 6), PIXELS)
    for part in (data.select([4, 2]), Subset(data, [4, 2])):
        few = AugmentedDataset(part, synthetic, transform=np.asarray)
        np.testing.assert_array_equal(first_real(few, 2), PIXELS[[4, 2]])
        assert few.targets[:2] == [0, 1]


# refusals


class Stream(IterableDataset):
    def __iter__(self):
        yield from ()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (Stream(), {}, r"got Stream, which has no length .*Save its images as <class>/<image>"),
        ({"train": Pictures()}, {}, r"got a dict of train\. Choose: data\['train'\]"),
        (Pictures(None), {}, r"Pictures has no \.targets or \.labels"),
        (Subset(Pictures(None), [0]), {}, r"Subset has no \.targets"),
        (Pictures(LABELS[:5]), {}, "Pictures has 6 images and 5 labels"),
        (Pictures([[0, 1]] * 6), {}, r"labels such as \[0, 1\]: expected one whole number"),
        (Pictures(classes=None), {}, r"does not name its classes\. Give them: classes="),
        (Pictures([0, 1, 2, 0, 0, 0]), {}, "labels from 0 to 2; expected 0 to 1 for 2 classes"),
        (Pictures([-1] * 6), {}, "labels from -1 to -1; expected 0 to 1"),
        (Pictures(classes=["cat", "wolf"]), {}, r"do not have: dog\. .*classes=\[\.\.\.\]"),
        (Pictures(target_transform=abs), {}, "has a target_transform, which changes the labels"),
        (
            Pictures(transform=TO_TENSOR),
            {"transform": TO_TENSOR},
            "both Pictures and AugmentedDataset have a transform",
        ),
        (Pictures(transform=TO_TENSOR, mode="L"), {}, r"\(1, 24, 24\).*\(3, 24, 24\).* mode='L' for gray"),
        (
            TensorDataset(torch.zeros(6, 3, 24, 24), torch.tensor(LABELS)),
            {"classes": ["cat", "dog"]},
            r"real images come as float32 Tensor \(3, 24, 24\): expected pictures",
        ),
        (
            ConcatDataset([Pictures(), Pictures(classes=["dog", "cat"])]),
            {},
            r"the parts of ConcatDataset differ in classes: \['cat', 'dog'\]; \['dog', 'cat'\]",
        ),
    ],
)
def test_what_cannot_be_wrapped_is_said(synthetic, data, options, message):
    with pytest.raises(GanaugError, match=message):
        AugmentedDataset(data, synthetic, **options)


def test_transforms_one_within_the_other(synthetic):
    outer = Subset(Pictures(transform=TO_TENSOR), [0])
    outer.transform = TO_TENSOR
    with pytest.raises(GanaugError, match="Subset and the data set within it have a transform each"):
        AugmentedDataset(outer, synthetic)


def test_hugging_face_data_of_other_kinds(synthetic):
    datasets = pytest.importorskip("datasets")
    data = hugging_face()
    with pytest.raises(GanaugError, match=r"the format 'torch'.*with_format"):
        AugmentedDataset(data.with_format("torch"), synthetic)
    with pytest.raises(GanaugError, match=r"got picture \(Image\), kind \(Value\)\. Cast them"):
        AugmentedDataset(data.cast_column("kind", datasets.Value("int64")), synthetic)
    with pytest.raises(GanaugError, match="got a DatasetDict of test"):
        AugmentedDataset(datasets.DatasetDict(test=data), synthetic)
    with pytest.raises(GanaugError, match="no length"):
        AugmentedDataset(data.to_iterable_dataset(), synthetic)
