"""AugmentedDataset in a training loop: schedules, samplers, workers, several processes."""

from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from folders import read, write_images, write_synthetic
from torch.utils.data import DataLoader, DistributedSampler, WeightedRandomSampler

from ganaug import AugmentedDataset, GanaugError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Real: 4 cats, 2 dogs. Synthetic: 8 cats, 4 dogs."""
    root = tmp_path_factory.mktemp("loading")
    real = write_images(root / "real", {"cat": 4, "dog": 2})
    return real, write_synthetic(root / "synthetic", {"cat": 8, "dog": 4})


def images_of(dataset, **options):
    return [image.numpy() for images, _ in DataLoader(dataset, batch_size=4, **options) for image in images]


def shown(dataset):
    """For each place the file whose image it shows."""
    files = {read(path).tobytes(): path for path, _ in dataset.samples}
    return [files[np.asarray(image).tobytes()] for image, _ in dataset]


# schedules


def test_a_schedule_says_how_many_synthetic_images_an_epoch_uses(folders):
    dataset = AugmentedDataset(*folders, transform=np.asarray, schedule=lambda epoch: epoch / 4)
    paths = [path for path, _ in dataset.samples]
    for epoch in range(5):
        dataset.set_epoch(epoch)
        seen = shown(dataset)
        assert seen[:6] == paths[:6]
        synthetic = [seen[index] for index in range(6, 18) if seen[index] == paths[index]]
        assert [sum(f"/{name}/" in path for path in synthetic) for name in ("cat", "dog")] == [2 * epoch, epoch]
        for place in range(6, 18):  # the others show real images of their class
            name = dataset.classes[dataset.targets[place]]
            assert seen[place] == paths[place] or f"/real/{name}/" in seen[place]


def test_what_a_schedule_leaves_out_varies_from_epoch_to_epoch_and_comes_again(folders):
    dataset = AugmentedDataset(*folders, transform=np.asarray, schedule=lambda epoch: 0)
    first = shown(dataset)
    assert not any("/synthetic/" in path for path in first)
    dataset.set_epoch(1)
    assert shown(dataset) != first
    dataset.set_epoch(0)
    assert shown(dataset) == first


def test_a_wrong_epoch_changes_nothing(folders):
    dataset = AugmentedDataset(*folders, schedule=lambda epoch: 1.0 if epoch < 3 else 1.5)
    dataset.set_epoch(2)
    for epoch, message in ((3, "share from 0 to 1; got 1.5 for epoch 3"), (-1, "epoch must be 0 or more; got -1")):
        with pytest.raises(GanaugError, match=message):
            dataset.set_epoch(epoch)
    assert dataset.epoch == 2


# samplers


def test_weights_draw_every_class_alike(folders):
    dataset = AugmentedDataset(*folders, ratio=1)
    weights, labels = dataset.sampling_weights(), torch.tensor(dataset.targets)
    torch.testing.assert_close(weights, torch.where(labels == 0, 1 / 8, 1 / 4).double())


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_weights_give_synthetic_images_a_share(folders, share):
    dataset = AugmentedDataset(*folders)
    weights = dataset.sampling_weights(synthetic_share=share)
    labels, synthetic = torch.tensor(dataset.targets), torch.tensor(dataset.is_synthetic)
    for label in (0, 1):
        assert float(weights[(labels == label) & synthetic].sum()) == pytest.approx(share)
        assert float(weights[(labels == label) & ~synthetic].sum()) == pytest.approx(1 - share)
    sampler = WeightedRandomSampler(weights, 4000, generator=torch.Generator().manual_seed(0))
    drawn = torch.tensor(list(sampler))
    assert float(synthetic[drawn].double().mean()) == pytest.approx(share, abs=0.04)
    assert float(labels[drawn].double().mean()) == pytest.approx(0.5, abs=0.04)


def test_a_class_of_one_kind_keeps_its_weight(folders):
    dataset = AugmentedDataset(*folders, cap={"cat": 0})
    weights = dataset.sampling_weights(synthetic_share=0.5)
    assert weights[:4].tolist() == [0.25] * 4 and float(weights.sum()) == pytest.approx(2)
    with pytest.raises(GanaugError, match=r"synthetic_share must be from 0 to 1; got 1\.5"):
        dataset.sampling_weights(synthetic_share=1.5)


@pytest.mark.parametrize("cap", [8, 7])
def test_ranks_share_the_images_out(folders, cap):
    dataset = AugmentedDataset(*folders, cap=cap)
    assert len(dataset) % 2 == (cap == 7)
    samplers = [DistributedSampler(dataset, num_replicas=2, rank=rank, seed=1) for rank in (0, 1)]
    for epoch in (0, 1):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        one, other = (list(sampler) for sampler in samplers)
        assert len(one) == len(other) == len(samplers[0]) and {*one, *other} == set(range(len(dataset)))
        assert len({*one} & {*other}) == len(dataset) % 2  # of an odd number one is repeated
        labels = [
            label for rank in samplers for _, batch in DataLoader(dataset, 4, sampler=rank) for label in batch.tolist()
        ]
        assert labels == [dataset.targets[index] for index in (*one, *other)]


# workers


def test_workers_that_outlive_an_epoch_hear_of_the_next(folders):
    import albumentations as A

    def make():
        transform = A.Compose([A.RandomBrightnessContrast(p=1), A.HorizontalFlip(p=0.5)])
        return AugmentedDataset(*folders, transform=transform, schedule=lambda epoch: 1 - epoch / 2)

    alone, shared = make(), make()
    loader = DataLoader(shared, batch_size=4, num_workers=2, persistent_workers=True)
    for epoch in (0, 1, 2, 0):
        for dataset in (alone, shared):
            dataset.set_epoch(epoch)
        found = [image.numpy() for images, _ in loader for image in images]
        np.testing.assert_array_equal(found, images_of(alone))


def test_workers_of_torchvisions_transforms_differ_from_one_another(folders):
    from torchvision.transforms import v2

    transform = v2.Compose([v2.RandomCrop(8), v2.PILToTensor()])
    dataset = AugmentedDataset(*folders, transform=transform)
    torch.manual_seed(0)
    first = images_of(dataset, num_workers=2)
    assert (np.stack(first) != np.stack(images_of(dataset, num_workers=2))).any()
    torch.manual_seed(0)
    np.testing.assert_array_equal(images_of(dataset, num_workers=2), first)


def test_a_worker_that_is_spawned_hears_of_the_next_epoch(folders):
    dataset = AugmentedDataset(*folders)
    copy = ForkingPickler.loads(ForkingPickler.dumps(dataset))  # how it reaches one
    dataset.set_epoch(5)
    assert copy.epoch == 5 and torch.equal(copy[-1][0], dataset[-1][0])
