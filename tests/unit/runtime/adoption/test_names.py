"""Names of models that no catalogue knows."""

import pytest

from diplex.errors import InvalidRequest
from workers.runtime.adoption import DiskName, HubName, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:a/b", HubName("a/b")),
        ("hf:a/b/fp32", HubName("a/b", profile="fp32")),
        ("hf:a/b@v1.0", HubName("a/b", "v1.0")),
        ("hf:a/b@v1/x-Q8_0.gguf/q4_mixed", HubName("a/b", "v1", "x-Q8_0.gguf", "q4_mixed")),
        ("hf:a/b/sub/x.gguf", HubName("a/b", file="sub/x.gguf")),
        ("SmolLM2", None),
        ("owner/name", None),
        ("owner/name/int8", None),
    ],
)
def test_what_names_mean(text, expected):
    assert parse(text) == expected
    if isinstance(expected, HubName):
        assert text.removesuffix(f"/{expected.profile}") == expected.name


@pytest.mark.parametrize("text", ["hf:", "hf:a", "hf:../b", "hf:a/b/c/d", "hf:a/b@", "hf:a/../x.gguf"])
def test_what_looks_like_a_hubs_name_and_is_none(text):
    with pytest.raises(InvalidRequest, match="names no repository; write hf:OWNER/NAME"):
        parse(text)


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my model").mkdir()
    assert parse("./my model") == DiskName(tmp_path / "my model")
    assert parse("./my model/fp32") == DiskName(tmp_path / "my model", "fp32")
    assert parse(str(tmp_path / "x.gguf")) == parse("x.gguf") == DiskName(tmp_path / "x.gguf")
    assert [parse(text).name for text in ("./my model", "x.gguf")] == ["local:my-model", "local:x"]
