"""Recipes in YAML files: loading, overrides, relative paths, messages, and writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmduet.errors import OptionError
from mmduet.training.recipe import HeadsOnly, Lora, QLora, Recipe
from mmduet.training.recipe_files import dump_recipe, load_recipe, recipe_from_dict, shipped_recipes
from mmduet.training.recipe_page import render_page
from mmduet.training.recipe_yaml import dump_yaml, parse_yaml

RECIPE = """\
method:
  kind: lora
data:
  - name: first
    kind: captioning
    annotations: a.json
    videos: ../videos
"""
SHIPPED = ["detailed-summary", "full", "heads", "lora", "nano-rule", "qlora"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def message(path: Path | str, *overrides: str) -> str:
    with pytest.raises(OptionError) as caught:
        load_recipe(path, overrides)
    return str(caught.value)


def with_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_page_of_recipes_is_up_to_date() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/recipes.md"
    assert page.read_text(encoding="utf-8") == render_page(), "run `make docs`"


def test_paths_of_a_file_count_from_its_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / "elsewhere").mkdir()
    monkeypatch.chdir(file.parent / "elsewhere")
    data_set = load_recipe("../mine.yaml").data[0]
    assert (data_set.annotations, data_set.videos) == tuple(
        Path.cwd() / ".." / name for name in ("a.json", "../videos")
    )


def test_paths_of_validation_data_count_from_the_folder(file: Path) -> None:
    path = with_text(file, RECIPE + "validation:\n  data:\n  - {name: second, kind: scenes, videos: split}\n")
    assert load_recipe(path).validation.data[0].videos == file.parent / "split"


def test_absolute_paths_and_the_home_folder_are_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    path = with_text(file, RECIPE.replace("a.json", "/data/a.json").replace("../videos", "~/videos"))
    data_set = load_recipe(path).data[0]
    assert (data_set.annotations, data_set.videos) == (Path("/data/a.json"), Path("/home/user/videos"))


@pytest.mark.parametrize(
    "override", ["data.0.videos=clips", "data=[{name: new, kind: scenes, videos: clips}]"], ids=["one", "all"]
)
def test_paths_in_overrides_count_from_the_working_directory(override: str, file: Path) -> None:
    assert load_recipe(file, [override]).data[0].videos == Path.cwd() / "clips"


def test_overrides_replace_single_values(file: Path) -> None:
    overrides = [
        "optimization.learning_rate=1e-4",
        "data.0.weight=2",
        "method.targets=[q_proj, v_proj]",
        "sampling.window=16",
        "description=a=b",
        "seed=1",
        "seed=2",
    ]
    recipe = load_recipe(file, overrides)
    assert (recipe.optimization.learning_rate, recipe.data[0].weight, recipe.data[0].name) == (1e-4, 2.0, "first")
    assert recipe.method == Lora(targets=("q_proj", "v_proj"))
    assert (recipe.sampling.window, recipe.description, recipe.seed) == (16, "a=b", 2)


@pytest.mark.parametrize("text", ["sampling.window=", "sampling.window=null", "sampling.window=~"])
def test_an_empty_override_clears_an_optional_value(text: str, file: Path) -> None:
    assert load_recipe(file, ["sampling.window=8", text]).sampling.window is None


def test_an_override_changes_one_of_two_sections_that_share_an_anchor(file: Path) -> None:
    entry = "{name: a, kind: scenes, videos: s}"
    path = with_text(file, f"method: {{kind: qlora}}\ndata:\n  - &one {entry}\n  - *one\n")
    recipe = load_recipe(path, ["data.1.name=b"])
    assert [(data_set.name, data_set.videos.name) for data_set in recipe.data] == [("a", "s"), ("b", "s")]


def test_a_method_is_replaced_as_a_whole_or_in_part(file: Path) -> None:
    path = with_text(file, RECIPE.replace("kind: lora\n", "kind: lora\n  rank: 4\n"))
    assert load_recipe(path, ["method.kind=qlora"]).method == QLora(rank=4)
    assert load_recipe(path, ["method={kind: heads}"]).method == HeadsOnly()
    assert "line 3: unknown key method.rank; the keys of method of kind heads are kind, reset" in message(
        path, "method.kind=heads"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimization.learning_rat=1", "unknown key optimization.learning_rat, did you mean optimization.learning_rate?"),
        ("optimization.learning_rate=fast", "optimization.learning_rate must be a number, got 'fast'"),
        ("optimization.learning_rate='1e-4'", "optimization.learning_rate must be a number, got '1e-4'"),
        ("optimization.learning_rate=0", "optimization.learning_rate must be above 0, got 0"),
        ("optimization.learning_rate=.inf", "optimization.learning_rate must be a finite number, got inf"),
        ("optimization.steps=1.5", "optimization.steps must be an integer or null, got 1.5"),
        ("optimization.steps=true", "optimization.steps must be an integer or null, got true"),
        ("optimization.warmup=1", "optimization.warmup must be below 1, got 1"),
        ("optimization.max_bad_fraction=2", "optimization.max_bad_fraction must be at most 1, got 2"),
        ("method.kind=loro", "method.kind must be lora, qlora, full or heads, got 'loro'"),
        ("method.rank=null", "method.rank must be an integer, got null"),
        ("method={}", "method.kind is missing; set it to lora, qlora, full or heads"),
        ("method=lora", "method must be a mapping of keys to values, got 'lora'"),
        ("method.saved_modules=[tower]", "method.saved_modules.0 must be projector or heads, got 'tower'"),
        ("method.targets=q_proj", "method.targets must be a list, got 'q_proj'"),
        ("data.0.wieght=1", "unknown key data.0.wieght, did you mean data.0.weight? the keys of data.0 are name, kind,"),
        ("data.0.videos=3", "data.0.videos must be a path, got 3"),
        ("data.0.name=''", "data.0.name must be a text that is not empty, got ''"),
        ("data.1.weight=1", "data has no entry 1; it has 1, and the number of the first is 0"),
        ("data.first.weight=1", "data has no entry first; it has 1"),
        ("data={name: a}", "data must be a list, got a mapping"),
        ("data=[]", "data must be a list with at least one entry, got an empty list"),
        ("sampling=", "sampling must be a mapping of keys to values, got null"),
        ("sampling.window=none", "sampling.window must be an integer or null, got 'none'"),
        ("validation.patience=3", "validation: patience needs validation samples"),
        ("gradient_checkpointing=yes", "gradient_checkpointing must be true or false, got 'yes'"),
        ("precision=float16", "precision must be bfloat16 or float32, got 'float16'"),
        ("description=1", "description must be a text (put it in quotes), got 1"),
        ("seed=-1", "seed must be at least 0, got -1"),
        ("seed=4294967296", "seed must be at most 4294967295, got 4294967296"),
        (f"seed=1{'0' * 30}", "seed must be at most 4294967295, got an integer of more than 20 digits"),
        (f"method.alpha=1{'0' * 400}", "method.alpha must be a number, got an integer of more than 20 digits"),
        ("method.kind.x=1", "method.kind is not a mapping and has no key x"),
        ("learning_rate=1", "unknown key learning_rate; the keys of a recipe are description, model,"),
        ("modell=x", "unknown key modell, did you mean model?"),
        ("a.b=1", "unknown key a;"),
    ],
)  # fmt: skip
def test_invalid_overrides_are_named(override: str, expected: str, file: Path) -> None:
    found = message(file, "seed=3", override)
    assert found.startswith("override ")
    assert expected in found
    assert "more after this one" not in found


@pytest.mark.parametrize("text", ["seed", "=1", "a..b=1", ".a=1", ""])
def test_an_override_without_a_key_and_a_value_is_rejected(text: str, file: Path) -> None:
    assert "must be KEY=VALUE, such as optimization.learning_rate=1e-4" in message(file, text)


@pytest.mark.parametrize("value", ["[", "{a: 1, a: 2}", "!!python/name:os.system", "'"])
def test_an_override_that_is_not_yaml_is_rejected(value: str, file: Path) -> None:
    assert message(file, f"model={value}").startswith(f"the value of override {f'model={value}'!r}, line 1 ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": method is missing; add it (Which weights are trained) (1 more after this one)"),
        ("method: {kind: heads}\n", ": data is missing; add it (Data sets to train on)"),
        ("3", ": a recipe must be a mapping of keys to values, got 3"),
        ("- a", ": a recipe must be a mapping of keys to values, got a list"),
        (RECIPE + "sampling:\n  window: 0\n", ", line 9: sampling.window must be at least 1 or null, got 0"),
        (RECIPE + "sampling:\n", ", line 8: sampling must be a mapping of keys to values, got null"),
        (RECIPE.replace("videos", "video"), ", line 7: unknown key data.0.video, did you mean data.0.videos?"),
        (RECIPE.replace("captioning", "text"), ", line 5: data.0.kind must be captioning, magqa, grounding,"),
        (RECIPE.replace("captioning", "scenes"), ", line 4: data.0: annotations is not used by kind scenes"),
        (RECIPE + "seed: 1\nseed: 2\n", ", line 9 sets seed a second time; remove one of the two"),
        (RECIPE + "data: 1\n", ", line 8 sets data a second time"),
        (RECIPE.replace("name: first", "name: a: b"), ", line 4 is not valid YAML: mapping values are not allowed here"),
        ("a: [1, 2", ", line 1 is not valid YAML: while parsing a flow sequence"),
        ("a: \t- b", ", line 1 is not valid YAML: "),
        ("a: b\n---\nc: d\n", ", line 2 is not valid YAML: expected a single document"),
        ("a: *b", ", line 1 is not valid YAML: found undefined alias"),
        ("a: &a [*a]", ", line 1 contains itself; remove the alias"),
        ("? {a: b}\n: c", ", line 1 has a key that is not a text; use a name"),
        ("a: !!timestamp 2020", ", line 1 has the tag tag:yaml.org,2002:timestamp; write the value without a tag"),
        ("a: !!int x", ", line 1 has 'x', which is not a valid int; correct it"),
        (f"a: {'1' * 5000}", "which is not a valid int; correct it"),
        ('"a\\eb": 1', "unknown key a\N{REPLACEMENT CHARACTER}b;"),
        ('a: "\\ud800"', r", line 1 has '\ud800', which is not valid Unicode text; correct it"),
        ('"a\\0": 1', r", line 1 has 'a\x00', which is not valid Unicode text"),
        ("a: \x07", " is not valid YAML: unacceptable character #x0007"),
        ("[" * 500, ", line 1 is not valid YAML: values are nested too deeply; fix that line"),
        ("#" * 100_001, " has 100001 characters, and at most 100000 are read; shorten it"),
    ],
)  # fmt: skip
def test_invalid_files_are_named_with_the_line(text: str, expected: str, file: Path) -> None:
    found = message(with_text(file, text))
    assert found.startswith(f"recipe {file}")
    assert expected in found


def test_a_repeated_alias_is_read_in_time_and_memory_of_one(file: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    path = with_text(file, "\n".join(["a0: &a0 [1]", *levels]))
    assert "unknown key a0; the keys of a recipe are" in message(path)


def test_unreadable_files_are_named(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\xff")
    assert "is not UTF-8 text" in message(file)
    assert f"recipe {file.parent} cannot be read" in message(file.parent)
    assert "none.yaml does not exist; check the path" in message("none.yaml")
    assert f"{os.sep}lora does not exist" in message(Path("lora"))


def test_a_byte_order_mark_is_ignored(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + RECIPE.encode())
    assert load_recipe(file).method == Lora()


def test_an_unknown_name_lists_the_recipes() -> None:
    expected = f"recipe 'loar' is not part of mmduet, did you mean lora? its recipes are {', '.join(SHIPPED)}; "
    assert message("loar") == expected + "the path of your own recipe ends in .yaml"


def test_the_recipes_of_the_package() -> None:
    assert shipped_recipes() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_is_valid(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(name)
    assert recipe.description.endswith(".")
    assert all(data_set.videos.is_relative_to(tmp_path / "datasets") for data_set in recipe.data)
    scenes = load_recipe(name, ["model=random:tiny", "data=[{name: s, kind: scenes, videos: s}]", "sampling.window=4"])
    assert scenes.data[0].videos == tmp_path / "s"
    assert scenes.method == recipe.method


def test_the_recipe_lora_has_the_values_of_the_paper() -> None:
    recipe = load_recipe("lora")
    assert recipe.method == Lora()
    assert (recipe.optimization.learning_rate, recipe.optimization.accumulation) == (2e-5, 16)
    assert [(data_set.name, data_set.kind) for data_set in recipe.data] == [
        ("shot2story-captions", "captioning"),
        ("shot2story-questions", "magqa"),
        ("didemo", "grounding"),
        ("hirest", "grounding"),
        ("queryd", "grounding"),
        ("coin", "captioning"),
    ]
    sampling = [recipe.sampling_for(data_set) for data_set in recipe.data]
    assert [(s.fps, s.max_frames) for s in sampling] == [
        (2, 100), (2, 100), (2, 100), (0.333, 120), (0.5, 120), (0.5, 120),
    ]  # fmt: skip


def test_the_recipe_for_summaries_learns_answers_only() -> None:
    recipe = load_recipe("detailed-summary")
    assert isinstance(recipe.method, QLora)
    assert recipe.method.saved_modules == ("projector",)
    assert {data_set.kind for data_set in recipe.data} == {"conversations"}
    assert (recipe.losses.lm, recipe.losses.informative, recipe.losses.relevance) == (1, 0, 0)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_written_recipe_is_read_back_as_it_is(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, ["description='1e-4: ünïcode # no'"])
    path = tmp_path / "run" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert recipe_from_dict(recipe.model_dump(mode="json"), "manifest") == recipe


def test_a_written_recipe_has_every_default(file: Path) -> None:
    written = parse_yaml(dump_recipe(load_recipe(file)), "text").value
    assert set(written) == set(Recipe.model_fields)
    assert (written["method"]["alpha"], written["optimization"]["ema"]) == (32.0, None)
    assert next(iter(written["method"])) == "kind"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), ("-.5", -0.5), ("1.", 1.0), ("+3", 3), ("010", 10), ("0x10", "0x10"), ("1_0", "1_0"),
        ("1:30", "1:30"), ("yes", "yes"), ("no", "no"), ("on", "on"), ("True", True), ("false", False), ("null", None),
        ("~", None), ("", None), ("2020-01-01", "2020-01-01"), ("'1'", "1"), (".inf", float("inf")), ("=", "="), (".", "."),
        ("e5", "e5"), ("!!str 1", "1"), ("!!float 1", 1.0), ("-.INF", float("-inf")),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text, "text").value
    assert (found, type(found)) == (value, type(value))


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_plain_values_survive_being_written(value: object) -> None:
    found = parse_yaml(dump_yaml(value), "text").value
    assert found == value
    assert repr(found) == repr(value)


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}&*!'\"#|>%@`, \n?~01.e"))
def test_any_text_is_a_recipe_or_a_named_error(text: str) -> None:
    with pytest.raises(OptionError, match=r"^text"):
        recipe_from_dict(parse_yaml(text, "text").value, "text")
