from __future__ import annotations

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rtseg.engines.labels import CITYSCAPES, ClassTable
from rtseg.realtime.errors import UsageError
from rtseg.realtime.palette import load_palette, select_classes

TWO = ClassTable(("road", "thing"), ((1, 2, 3), (4, 5, 6)))

channel = st.integers(0, 255)
colours = st.dictionaries(
    st.sampled_from(CITYSCAPES.names), st.tuples(channel, channel, channel), min_size=1
)


def expected(chosen):
    return tuple(
        chosen.get(name, old)
        for name, old in zip(CITYSCAPES.names, CITYSCAPES.palette, strict=True)
    )


@given(colours, st.booleans())
def test_json_palettes_recolour_only_what_they_name(tmp_path_factory, chosen, as_hex):
    path = tmp_path_factory.mktemp("palette") / "p.json"
    entries = {
        name: "#{:02x}{:02x}{:02x}".format(*colour) if as_hex else list(colour)
        for name, colour in chosen.items()
    }
    path.write_text(json.dumps(entries, indent=1))
    table = load_palette(str(path), CITYSCAPES)
    assert table.palette == expected(chosen)
    assert table.names == CITYSCAPES.names
    assert table.label_ids == CITYSCAPES.label_ids


@given(colours, st.sampled_from([" ", ",", ", ", "\t", ";"]))
def test_line_palettes_read_csv_and_gimp(tmp_path_factory, chosen, gap):
    path = tmp_path_factory.mktemp("palette") / "p.gpl"
    lines = ["GIMP Palette", "Name: mine", "Columns: 4", "# a comment", ""]
    lines += [gap.join([str(v) for v in c] + [name]) for name, c in chosen.items()]
    path.write_text("\n".join(lines))
    assert load_palette(str(path), CITYSCAPES).palette == expected(chosen)


def test_the_name_cityscapes_colours_the_classes_it_knows():
    table = load_palette("Cityscapes", TWO)
    assert table.palette == (CITYSCAPES.palette[0], (4, 5, 6))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"road": [1, 2]}', "line 1: the colour of 'road' must be"),
        ('{"road": [1, 2, 300]}', "0..255"),
        ('{\n"sky": [1, 2, 3],\n"road": "red"}', "line 3"),
        ('{"road": [1, 2, 3],}', "line 1: not JSON"),
        ("[1, 2]", "expected an object"),
        ("1 2 3 road\n1 2 sky\n", "line 2"),
        ("1 2 3 road\n# x\n1 -2 3 sky\n", "line 3: a channel is 0..255"),
        ("1 2 3 rode\n", "line 1: unknown class 'rode'; did you mean 'road'?"),
        ("", "no colour"),
    ],
)
def test_palette_errors_name_the_line_and_what_is_allowed(tmp_path, content, says):
    path = tmp_path / "p.txt"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_palette(str(path), CITYSCAPES)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_palette_that_is_absent_or_no_text(tmp_path):
    with pytest.raises(UsageError, match="cityscapes, or a file") as caught:
        load_palette(str(tmp_path / "absent"), CITYSCAPES)
    assert caught.value.reason == "NOT_FOUND"
    binary = tmp_path / "b"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UsageError, match="not text"):
        load_palette(str(binary), CITYSCAPES)
    with pytest.raises(UsageError, match="cannot be read"):
        load_palette(str(tmp_path), CITYSCAPES)


@given(st.lists(st.sampled_from(range(19)), min_size=1), st.randoms())
def test_class_lists_come_back_sorted_and_once(ids, random):
    names = []
    for index in ids:
        name = CITYSCAPES.names[index]
        name = random.choice([name, name.upper(), name.replace(" ", "_"), name.replace(" ", "-")])
        names.append(random.choice([name, f" {name} "]))
    assert select_classes(",".join(names), CITYSCAPES) == tuple(sorted(set(ids)))


@given(st.text(max_size=30))
def test_any_text_is_classes_or_a_usage_error(text):
    known = {name.lower() for name in CITYSCAPES.names}
    wanted = [part.strip().lower().replace("_", " ").replace("-", " ") for part in text.split(",")]
    wanted = [" ".join(part.split()) for part in wanted if part.strip()]
    assume(not any(part.isdecimal() for part in wanted))
    if wanted and known.issuperset(wanted):
        assert len(select_classes(text, CITYSCAPES)) == len(set(wanted))
    else:
        with pytest.raises(UsageError, match="Allowed: road") as caught:
            select_classes(text, CITYSCAPES)
        assert caught.value.exit_code == 2


def test_classes_by_their_ids():
    assert select_classes("0,11", CITYSCAPES) == (0, 11)
    assert select_classes("11, road", CITYSCAPES) == (0, 11)
    for wrong in ("19", "9" * 5000):
        with pytest.raises(UsageError, match=r"no class has the id .* Allowed: 0 to 18, or names"):
            select_classes(wrong, CITYSCAPES)


def test_names_with_commas_in_them():
    names = ("door", "door, double door", "tree", "7", "rock, stone, boulder")
    table = ClassTable(names, tuple((n, n, n) for n in range(len(names))))
    assert select_classes("door, double door", table) == (1,)
    assert select_classes("door,Double-Door,tree", table) == (1, 2)
    assert select_classes("tree, door", table) == (0, 2)
    assert select_classes("rock, stone, boulder,door", table) == (0, 4)
    assert select_classes("7,0", table) == (0, 3), "a name before an id"
    with pytest.raises(UsageError, match="unknown class 'double door'"):
        select_classes("tree, double door", table)


def test_unknown_classes_get_a_suggestion():
    with pytest.raises(UsageError, match="did you mean 'bicycle'"):
        select_classes("road,bycicle", CITYSCAPES)
