"""convert.errors: names from files and users in messages of one line."""
import pytest
from deepdream.convert.errors import no_such_end, shown


@pytest.mark.parametrize("text, expected", [
    ("inception_4c/output", "inception_4c/output"), ("Kätzchen 猫", "Kätzchen 猫"), (5, "5"), ("", ""),
    ("a\nb\t\x1b[31m\0", r"a\nb\t\x1b[31m\x00"), ("\ud800", r"\ud800"), ("right\u202eleft", r"right\u202eleft"),
    ("x" * 80, "x" * 80)])
def test_unprintable_characters_are_escaped(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize("letter", ["x", "\n", "\U0010ffff"])
def test_long_names_lose_their_middle(letter):
    name = "begin" + letter * 10 ** 6 + "end"
    assert len(shown(name)) == 80 and shown(name).startswith("begin") and shown(name).endswith("end")
    assert "..." in shown(name) and len(shown(name, 20)) == 20


def test_an_unknown_end_is_one_short_line():
    message = str(no_such_end("a\n" * 1000, ["b\n" * 1000, "pool2"]))
    assert "\n" not in message and len(message) < 500 and "pool2" in message
