"""A run that trains in a second, and what tests ask of it."""

CLASS_NAMES = ("0", "1", "2")
TRAIN_COUNTS = {"0": 8, "1": 6, "2": 5}  # unequal, so that balancing has something to do
TEST_PER_CLASS = 10

TINY = {
    "data": {"image_size": 16},
    "fit": {
        "steps": 12,
        "width": 4,
        "latent_size": 4,
        "batch_size": 8,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "log_interval": 2,
    },
    # a GAN of a few steps passes no test
    "curation": {"without": ["copy", "wrong-class", "outlier", "unrealistic", "duplicate"], "keep": 1.0},
    "compare": {
        "seeds": 2,
        "max_updates": 8,
        "inner_folds": 2,
        "batch_size": 6,
        "pool_per_class": 4,
        "precision": "fp32",
        "device": "cpu",
        "jobs": 1,
    },
}


def with_settings(**stages):
    """The tiny recipe with some settings changed: `with_settings(fit={"steps": 3})`."""
    return {stage: TINY[stage] | stages.get(stage, {}) for stage in TINY} | {
        stage: values for stage, values in stages.items() if stage not in TINY
    }


def weights_of(run, member="joint"):
    """The bytes of a member's stored networks."""
    return {
        name: (run / "members" / member / f"{name}.safetensors").read_bytes() for name in ("generator", "discriminator")
    }


def files_of(folder):
    """{path inside the folder: bytes} of every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
