"""HyperPyYAML files: references and numbers."""

import subprocess
import sys

import pytest

from papez_lobes.config.yaml_files import build, fill_in, read_tree
from papez_lobes.errors import UserError


def load(tmp_path, text, built=False):
    file = tmp_path / "x.yaml"
    file.write_text(text, encoding="utf-8")
    tree = fill_in(read_tree(file))
    return build(tree, file) if built else tree


@pytest.mark.parametrize("text, number", [
    ("!ref <base> * 0.01", 1e-5), ("!ref <tiny>", 1e-5), ("!ref <tiny> * 2", 2e-5),
    ("!ref <low> * 2", -6.0), ("!ref -<base>", -0.001), ("!ref <count> * -1", -4),
    ("!ref <count> // 3", 1), ("!ref <count> ** 2", 16), ("!ref <chain> + 1", 5),
    ("!ref 1e-5", 1e-5), ("1e-5", 1e-5), ("1E5", 1e5), ("!ref (<low> + 1) / 2", -1.0),
])
def test_arithmetic_gives_numbers(tmp_path, text, number):
    """In values, in lists, in tuples that are written out, and in what is built from them."""
    values = load(tmp_path, (
        f"base: 0.001\ntiny: 1e-5\nlow: -3.0\ncount: 4\nchain: !ref <count>\nx: {text}\n"
        f"y: [{text}, [1e-5]]\nz: !new:collections.Counter\n    x: {text}\n    y: [{text}]\n"
        "t: (0.9, 1e-5, 1e5, 2)\nr: !ref <z>\n"), built=True)
    for value in (values["x"], values["y"][0], values["z"]["x"], values["z"]["y"][0]):
        assert value == pytest.approx(number) and type(value) in (int, float)
    assert values["y"][1] == [1e-5]
    assert values["t"] == (0.9, 1e-5, 1e5, 2) and type(values["t"][1]) is float
    assert values["r"] is values["z"]


def test_text_with_references_stays_text(tmp_path):
    values = load(tmp_path, "a: 1/0\nb: !ref <a>/save\nc: !ref results/<n>\nn: 3\nd: !ref <a>\n")
    assert dict(values) == {"a": "1/0", "b": "1/0/save", "c": "results/3", "n": 3, "d": "1/0"}


@pytest.mark.parametrize("text, message", [
    ("a: !ref <nothing>", 'The reference "nothing" is not valid'),
    ("a: !ref <b>\nb: !ref <a>", "!ref"),
    ("a: !new:nowhere.Class", "There is no such class"),
    ("a: (1, [2)", "x.yaml: "),
    ("a: !PLACEHOLDER", "'a' is a !PLACEHOLDER"),
])
def test_what_cannot_be_built_is_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, text, built=True)
    assert str(error.value).startswith(f"{tmp_path / 'x.yaml'}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("content, message", [
    (b"\xff\xfe\x00", "not valid YAML"), (b"a: [1\n", "not valid YAML: line 2"),
    (b"a: 1\na: 2\n", "not valid YAML: line 2: found duplicate key"), (b"- 1\n", "holds no keys"),
    (b"", "holds no keys"),
])
def test_what_is_no_file_of_keys_is_one_line(tmp_path, content, message):
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_tree(file)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        read_tree(tmp_path)


def test_text_in_parentheses_stays_text_in_the_first_file_of_a_process(tmp_path):
    """HyperPyYAML alone makes a tuple of it there."""
    file = tmp_path / "x.yaml"
    file.write_text("a: '(b)'\n", encoding="utf-8")
    code = ("from papez_lobes.config.yaml_files import build, read_tree; import sys; "
            "print(build(read_tree(sys.argv[1]), 'x'))")
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert done.stdout.strip() == "{'a': '(b)'}", done.stderr
