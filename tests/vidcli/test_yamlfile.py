import pytest

from tasks.core.errors import UsageError
from vidcli.yamlfile import MAX_BYTES, load_mapping, parse


def test_plain_values():
    assert parse("a: [1, 2.5, 1e-4, -3E5, x, null, true]", "t") == {"a": [1, 2.5, 1e-4, -3e5, "x", None, True]}
    assert parse("", "t") is None
    assert parse("base: &b {x: 1}\nmore: {<<: *b, y: 2}", "t")["more"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"t, line 3, column 1: duplicate key 'a'"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: &a [*a]", "contains itself"),
        ("[" * 40 + "]" * 40, "deeper than"),
        ("a: b: c", "line 1"),
        ("a: 1\n---\nb: 2", "another document"),
        ("? [1, 2]\n: x", "t"),
        ("x" * (MAX_BYTES + 1), "larger than 1 MB"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse(text, "t")


def test_an_alias_bomb_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(UsageError, match="once aliases are written out"):
        parse("\n".join(lines), "t")


def test_files(tmp_path):
    file = tmp_path / "x.yaml"
    with pytest.raises(UsageError, match="no such file"):
        load_mapping(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_mapping(file)
    file.write_text("")
    assert load_mapping(file) == {}
    file.write_text("1: x")
    with pytest.raises(UsageError, match="expected a mapping"):
        load_mapping(file)
    with pytest.raises(UsageError, match="cannot read"):
        load_mapping(tmp_path)
