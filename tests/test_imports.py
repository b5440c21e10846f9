"""What is loaded when: a help text must not wait for torch."""

import pytest
from tiny import python

HEAVY = (
    "torch",
    "numpy",
    "pandas",
    "sklearn",
    "scipy",
    "matplotlib",
    "albumentations",
    "PIL",
    "joblib",
    "huggingface_hub",
)


def loaded_after(code):
    found = python(f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)")
    assert found.returncode == 0, found.stderr
    return set(found.stderr.split())


def test_the_package_loads_nothing_heavy():
    assert loaded_after("import ganaug; dir(ganaug); ganaug.GanaugError; ganaug.Recipe()") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["fit", "--help"], ["run", "-h"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = f"from ganaug.cli import main\nmain({arguments!r}, standalone_mode=False)"
    assert loaded_after(code) == set()


def test_a_report_is_written_without_torch():
    assert "torch" not in loaded_after("import ganaug; ganaug.report")


def test_browse_needs_no_torch():
    assert "torch" not in loaded_after("import ganaug; ganaug.browse; import ganaug.browsing.server")


def test_every_public_name_exists():
    code = "import ganaug\nfor name in ganaug.__all__: assert getattr(ganaug, name) is not None"
    assert python(code).returncode == 0


def test_what_a_public_function_returns_is_public_and_a_device_is_explained():
    code = (
        "import inspect, typing, ganaug\n"
        "for function in filter(inspect.isfunction, (getattr(ganaug, name) for name in ganaug.__all__)):\n"
        "    found = inspect.signature(function).return_annotation\n"
        "    for kind in (found, *typing.get_args(found)):\n"
        "        if getattr(kind, '__module__', '').startswith('ganaug'):\n"
        "            assert getattr(ganaug, kind.__name__) is kind, kind\n"
        "    if 'device' in inspect.signature(function).parameters: assert 'device:' in function.__doc__, function"
    )
    assert python(code).stderr == ""


def test_an_unknown_name_is_an_attribute_error():
    assert "has no attribute 'fitt'" in python("import ganaug; ganaug.fitt").stderr


@pytest.mark.parametrize("module", ["ganaug.gan.training", "ganaug.study.compare", "ganaug.integrations.datasets"])
def test_albumentations_is_only_for_who_brings_it(module):
    assert "albumentations" not in loaded_after(f"import {module}")


def test_a_worker_loads_little_of_what_makes_images():
    code = "import ganaug; ganaug.AugmentedDataset; ganaug.GeneratorDataset"
    assert not loaded_after(code) & {"sklearn", "scipy", "matplotlib", "joblib", "huggingface_hub"}
