"""Settings: defaults, ranges, messages, recipe files in YAML and TOML."""

import math

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ganaug import GanaugError, Recipe, load_recipe
from ganaug.gan.strategies import STRATEGIES
from ganaug.progress import format_duration
from ganaug.recipe import dump_recipe, load_recipe_mapping
from ganaug.settings import parse_budget, parse_duration

STAGES = {name: field.annotation for name, field in Recipe.model_fields.items()}
FIELDS = [(stage, name) for stage, model in STAGES.items() for name in model.model_fields]


@pytest.mark.parametrize(("stage", "name"), FIELDS)
def test_every_default_validates_and_is_described(stage, name):
    field = STAGES[stage].model_fields[name]
    assert getattr(STAGES[stage](**{name: field.default}), name) == field.default
    assert field.description and field.description.endswith(".")


def test_every_stage_has_its_settings():
    assert set(STAGES) == {"data", "fit", "synthesize", "curation", "compare", "report"}
    assert load_recipe() == load_recipe({}) == load_recipe(Recipe()) == Recipe()


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Recipe().fit.steps = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fit": {"stps": 3}}, "unknown setting fit.stps: did you mean fit.steps?"),
        ({"fitt": {"steps": 3}}, "unknown setting fitt: did you mean fit?"),
        ({"compare": {"zzz": 3}}, "unknown setting compare.zzz: known: preset, arms, splits"),
        ({"fit": {"strategy": "jiont"}}, "setting fit.strategy = 'jiont'"),
        ({"fit": {"augment": ["colour"]}}, "fit.augment.0 = 'colour'"),
        ({"data": {"image_size": 48}}, "data.image_size"),
        ({"fit": {"steps": 0}}, "setting fit.steps = 0: input should be greater than or equal to 1."),
        ({"fit": {"budget": "soon"}}, "fit.budget = 'soon': expected a duration such as 90s, 5m or 1h30m"),
        ({"fit": {"budget": "0s"}}, "fit.budget"),
        ({"fit": {"learning_rate": float("nan")}}, "fit.learning_rate"),
        ({"fit": {"transition": [0.6, 0.3]}}, "transition"),
        ({"fit": {"augment_limits": [0.9, 0.1]}}, "augment_limits"),
        ({"fit": {"seed": -1}}, "fit.seed"),
        ({"data": {"test_fraction": 1.0}}, "data.test_fraction"),
        ({"fit": 3}, "fit"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(GanaugError) as refusal:
        load_recipe(values)
    assert message in str(refusal.value)


def test_every_mistake_is_named_at_once():
    with pytest.raises(GanaugError) as refusal:
        load_recipe({"fit": {"stps": 3, "width": -1}, "data": {"seed": "x"}})
    lines = str(refusal.value).splitlines()
    assert len(lines) == 3
    assert {name for name in ("fit.stps", "fit.width", "data.seed") if name in str(refusal.value)} == {
        "fit.stps",
        "fit.width",
        "data.seed",
    }


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_durations_add_up(hours, minutes, seconds):
    text = "".join(f"{n}{unit}" for n, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if n)
    assume(text)
    assert parse_duration(text) == 3600 * hours + 60 * minutes + seconds
    assert parse_duration(f" {text.upper()} ") == parse_duration(text)


@given(st.integers(0, 10**6))
def test_a_shown_duration_can_be_typed_in(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.floats(0.001, 1e6))
def test_plain_seconds(seconds):
    assert parse_duration(seconds) == seconds
    assert parse_duration(f"{seconds:.3f}s") == pytest.approx(seconds, abs=1e-3)
    assert parse_duration(f"{seconds:.3f}m") == pytest.approx(60 * seconds, abs=0.06)


@given(st.text(max_size=8))
def test_any_other_text_is_refused(text):
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        assert "1h30m" in str(error)
    else:
        assert math.isfinite(seconds) and seconds >= 0 and any(char.isdigit() for char in text)


@pytest.mark.parametrize("text", ["", "m", "5x", "-5m", "5m5h", "1e3", "nan", "inf", "1 0m"])
def test_no_durations(text):
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "seconds"), [("90s", 90), ("1h30m", 5400), (12, 12), (0.5, 0.5), ("5 min", 300), ("2hours 30sec", 7230)]
)
def test_budgets(value, seconds):
    assert parse_budget(value) == seconds


@pytest.mark.parametrize("value", ["10", "0.5", " 3 "])
def test_typed_numbers_need_a_unit(value):
    with pytest.raises(GanaugError, match="give a unit: 10m, 90s, 1h"):
        parse_budget(value)
    with pytest.raises(GanaugError, match=r"fit\.budget.*give a unit"):
        load_recipe({"fit": {"budget": value}})
    with pytest.raises(GanaugError, match=r"fit\.sample_interval.*give a unit"):
        load_recipe(load_recipe_mapping(None, [f"fit.sample_interval={value}"], {}))
    assert load_recipe(load_recipe_mapping(None, [f"fit.budget={value.strip()}s"], {})).fit.budget == float(value)


def test_numbers_of_a_recipe_file_are_seconds(tmp_path):
    (tmp_path / "r.yaml").write_text("fit: {budget: 210.0}\ncompare: {budget: 30}")
    recipe = load_recipe(tmp_path / "r.yaml")
    assert (recipe.fit.budget, recipe.compare.budget) == (210, 30)


@pytest.mark.parametrize("value", ["0", 0, -3, "later", None, float("nan")])
def test_wrong_budgets_are_named(value):
    with pytest.raises(GanaugError, match="1h30m"):
        parse_budget(value)


@pytest.mark.parametrize("value", ["32", 32, "auto"])
def test_image_sizes_may_be_text(value):
    assert load_recipe({"data": {"image_size": value}}).data.image_size == (32 if value != "auto" else "auto")


def test_yaml_numbers_in_exponent_notation(tmp_path):
    """YAML 1.1 reads 1e-3 as text."""
    path = tmp_path / "recipe.yaml"
    path.write_text("fit:\n  learning_rate: 1e-3\n  budget: 90s\n  r1_weight: 5\n")
    assert isinstance(yaml.safe_load(path.read_text())["fit"]["learning_rate"], str)
    recipe = load_recipe(path)
    assert (recipe.fit.learning_rate, recipe.fit.budget, recipe.fit.r1_weight) == (1e-3, 90.0, 5.0)


def test_toml(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[fit]\nsteps = 7\nlearning_rate = 1e-3\naugment = ["color"]\n[data]\nmirror = "both"\n')
    recipe = load_recipe(path)
    assert recipe.fit.steps == 7 and recipe.fit.learning_rate == 1e-3 and recipe.fit.augment == ("color",)
    assert recipe.data.mirror == "both" and load_recipe(str(path)) == recipe


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "fit: [", "not valid YAML"),
        ("a.toml", "[fit", "not valid TOML"),
        ("a.yaml", "- fit", "not a list"),
        ("a.yaml", "just words", "not a str"),
        ("a.yaml", "fit:\n  stps: 3", "did you mean fit.steps"),
    ],
)
def test_wrong_recipe_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(GanaugError, match=message):
        load_recipe(tmp_path / name)


def test_missing_and_binary_recipe_files(tmp_path):
    with pytest.raises(GanaugError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(GanaugError, match="cannot be read"):
        load_recipe(tmp_path / "binary.yaml")


def test_an_empty_file_means_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_recipe(tmp_path / "empty.yaml") == Recipe()


recipes = st.fixed_dictionaries(
    {
        "data": st.fixed_dictionaries(
            {},
            optional={
                "image_size": st.sampled_from(["auto", 16, 64]),
                "group_regex": st.one_of(st.none(), st.just(r"(group\d+)_"), st.just("null"), st.just("ü: #")),
                "limit_per_class": st.one_of(st.none(), st.integers(1, 99)),
                "test_fraction": st.floats(0.01, 0.99),
            },
        ),
        "fit": st.fixed_dictionaries(
            {},
            optional={
                "strategy": st.sampled_from(sorted(STRATEGIES)),
                "steps": st.one_of(st.none(), st.integers(1, 10**9)),
                "learning_rate": st.floats(1e-12, 1e3),
                "augment": st.lists(st.sampled_from(["color", "scale", "cutout"]), unique=True),
                "device": st.sampled_from(["cpu", "cuda:1"]),
            },
        ),
        "synthesize": st.fixed_dictionaries(
            {}, optional={"classes": st.lists(st.text(min_size=1, max_size=5), max_size=3)}
        ),
    }
)


@given(recipes)
def test_round_trip(values):
    recipe = load_recipe(values)
    text = dump_recipe(recipe)
    assert load_recipe(yaml.safe_load(text)) == recipe
    assert dump_recipe(load_recipe(yaml.safe_load(text))) == text


def test_a_dumped_recipe_is_a_file_to_load(tmp_path):
    recipe = load_recipe({"fit": {"steps": 3, "augment": []}, "synthesize": {"classes": ["no", "1", "null"]}})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe
    assert set(yaml.safe_load(dump_recipe(recipe))["fit"]) == set(STAGES["fit"].model_fields)  # complete


def test_a_base_gives_what_is_not_set():
    base = load_recipe({"fit": {"steps": 3, "width": 8}, "compare": {"seeds": 4}})
    recipe = load_recipe({"fit": {"width": 16}}, base=base)
    assert (recipe.fit.steps, recipe.fit.width, recipe.compare.seeds) == (3, 16, 4)
    assert load_recipe(None, base=base) == base
    explicit = Recipe.model_validate({"fit": {"width": 16}})
    assert load_recipe(explicit, base=base) == recipe


def test_later_sources_win(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("fit:\n  steps: 1\n  width: 4\n  seed: 1\n")
    values = load_recipe_mapping(path, ["fit.width=8", "fit.seed=2", "fit.augment=[color]"], {"fit": {"seed": 3}})
    fit = load_recipe(values).fit
    assert (fit.steps, fit.width, fit.seed, fit.augment) == (1, 8, 3, ("color",))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("data.group_regex=(a|b): [", {"data": {"group_regex": "(a|b): ["}}),
        ("fit.steps=null", {"fit": {"steps": None}}),
        ("fit.learning_rate=1e-3", {"fit": {"learning_rate": "1e-3"}}),
        ("synthesize.balance = all", {"synthesize": {"balance": "all"}}),
    ],
)
def test_overrides_are_read_as_yaml_where_they_can_be(text, values):
    found = load_recipe_mapping(None, [text], {})
    assert {stage: {name.strip(): value for name, value in keys.items()} for stage, keys in found.items()} == values


@pytest.mark.parametrize("text", ["steps=3", "fit.steps", "fit.=3", "=3"])
def test_wrong_overrides(text):
    with pytest.raises(GanaugError, match=r"stage\.key=value"):
        load_recipe_mapping(None, [text], {})


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit: {steps: 2026-99-99}", "is not valid YAML: month must be"),
        ("fit: {steps: !!int x}", "is not valid YAML"),
        ("fit: {steps: " + "9" * 5000 + "}", "is not valid YAML: Exceeds the limit"),
        ("fit: {steps: 0x" + "f" * 5000 + "}", "a number of very many digits: expected no number above"),
        ("fit: {steps: 99999999999}", "expected no number above 4,294,967,296"),
        ("fit: {steps: true}", "expected no true or false"),
        ("compare: {seeds: 100000000}", "less than or equal to 1000"),
        ("synthesize: {add: {a: 99999999999}}", "less than or equal to"),
        ("[" * 20_000, "is not valid YAML: maximum recursion depth"),
        (LAUGHS, "it has an alias"),
        ("fit: {steps: 1}\nfit: {steps: 2}", "it has the key fit twice"),
        ("fit: {1: 2}", "keys should be strings"),
        ("? [1]\n: 2", "unhashable key"),
        ("fit: {steps: !!python/object/apply:os.system ['true']}", "could not determine a constructor"),
        ("#" * 2**21, "more than 1,048,576 bytes"),
        ("fit: {steps: '" + "x" * 5000 + "'}", "fit.steps = 'xxx"),
    ],
)
def test_hostile_recipes_get_one_line(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(GanaugError) as caught:
        load_recipe(tmp_path / "a.yaml")
    found = str(caught.value)
    assert message in found and "\n" not in found and len(found) < 600


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "[fit]\nsteps = " + "9" * 5000])
def test_hostile_toml(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(GanaugError, match="is not valid TOML"):
        load_recipe(tmp_path / "a.toml")


@pytest.mark.parametrize("value", ["2026-99-99", "[" * 5000, "9" * 6000])
def test_hostile_overrides(value):
    with pytest.raises(GanaugError, match="fit\\.steps"):
        load_recipe(load_recipe_mapping(None, [f"fit.steps={value}"], {}))


@pytest.mark.parametrize("given", [{"data": {"group_regex": "\ud800(.)"}}, {"synthesize": {"add": {"\udcff": 1}}}])
def test_half_characters_are_refused(given):
    with pytest.raises(GanaugError, match="a setting has a text that is not valid Unicode") as refused:
        load_recipe(given)
    str(refused.value).encode()
