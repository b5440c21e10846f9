"""Images that stay on disk while a GAN learns from them."""

import numpy as np
import torch
from small import weights_of, with_settings

from ganaug.gan import checkpoints, shares, steps
from ganaug.gan.shares import judged
from ganaug.gan.steps import TrainingData
from ganaug.gan.stored import StoredImages
from ganaug.gan.training import fit
from ganaug.gan.validation import TrainingImages
from ganaug.settings import FitSettings


def stored(tmp_path, count=6):
    """Image i has every pixel i; rows 1, 3, 5, ... of the file are used."""
    file = np.broadcast_to(np.arange(2 * count, dtype=np.uint8)[:, None, None, None], (2 * count, 3, 4, 4))
    np.save(tmp_path / "images.npy", file)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    return StoredImages(mapped, torch.arange(1, 2 * count, 2), torch.device("cpu"))


def test_images_on_disk_answer_as_a_tensor_of_them_does(tmp_path):
    images = stored(tmp_path)
    whole = torch.arange(1, 12, 2, dtype=torch.uint8)[:, None, None, None].expand(6, 3, 4, 4)
    assert images.shape == whole.shape and len(images) == 6
    for asked in (torch.tensor([4, 0, 4, 2]), torch.tensor([], dtype=torch.int64), torch.arange(6) % 2 == 0):
        assert torch.equal(images[asked], whole[asked])
    part = images.part(torch.arange(6) > 2)
    assert torch.equal(part[torch.tensor([2, 0])], whole[[5, 3]])


def test_a_training_from_disk_is_the_same_training(tiny_run, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("ganaug.gan.stored.RESIDENT", 0)
    run = fit(digits, tmp_path / "run", recipe=with_settings())
    assert weights_of(run) == weights_of(tiny_run)


def test_judges_see_a_bounded_sample_drawn_alike_from_all_classes(tmp_path, monkeypatch):
    images, labels = stored(tmp_path), torch.tensor([0, 0, 0, 0, 1, 1])
    assert torch.equal(judged(TrainingImages(images, labels), 2, 0).labels, labels)
    monkeypatch.setattr(shares, "JUDGED", 4)
    few = judged(TrainingImages(images, labels), 2, 0)
    assert few.labels.tolist() == [0, 0, 1, 1] and few.images[2:, 0, 0, 0].tolist() == [9, 11]


def test_of_many_images_a_class_gives_different_ones_too(monkeypatch):
    monkeypatch.setattr(steps, "MANY", 4)
    rng = torch.Generator().manual_seed(0)
    drawn = [steps.draw_group(torch.arange(10, 15), rng).tolist() for _ in range(50)]
    assert all(len(set(rows)) == steps.SPREAD_GROUP for rows in drawn)
    assert {row for rows in drawn for row in rows} == set(range(10, 15))


def test_another_process_opens_the_file_itself(tmp_path, monkeypatch):
    images = stored(tmp_path)
    sent = TrainingData(images, (torch.arange(3), torch.arange(3, 6)), (0, 1), "none").to_plain()
    assert not any(isinstance(value, np.ndarray) for value in sent["images"].values())
    monkeypatch.chdir("/")
    again = TrainingData.from_plain(sent).images
    assert torch.equal(again[torch.tensor([4, 0])], images[torch.tensor([4, 0])])


def test_a_saved_state_belongs_to_the_same_images_wherever_they_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BLOCK", 4)
    images = stored(tmp_path)
    held = images[torch.arange(6)]
    own, other, changed = (
        checkpoints.owner_of("all", {}, FitSettings(), TrainingData(each, (), (), "none"))
        for each in (images, held, held + 1)
    )
    assert own == other != changed
