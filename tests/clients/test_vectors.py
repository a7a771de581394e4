"""The test vectors of src/rust/vault/vectors, which the vault's own tests read as well."""
import json
import shutil

import pytest

import make_vectors
from vault_reader import BoxError, VaultError, open_box, read_vault

FOLDER = make_vectors.FOLDER
BOXES = json.loads((FOLDER / "box.json").read_text())


@pytest.fixture
def checked_in(tmp_path):
    """A private copy of a whole vault: its directories, and what is expected in it."""

    def copy(name):
        for part in ("data", "config"):
            shutil.copytree(FOLDER / name / part, tmp_path / part, copy_function=shutil.copyfile)
            for path in (tmp_path / part).iterdir():
                path.chmod(0o600)
            (tmp_path / part).chmod(0o700)
        return tmp_path / "data", tmp_path / "config", json.loads((FOLDER / name / "expected.json").read_text())

    return copy


@pytest.mark.parametrize("vector", BOXES, ids=lambda vector: vector["name"])
def test_box(vector):
    key, context, box = (bytes.fromhex(vector[field]) for field in ("key", "context_bytes", "box"))
    try:
        assert open_box(key, context, box).hex() == vector["plaintext"]
        result = "ok"
    except BoxError as error:
        result = str(error)
    assert result == vector["result"]


def test_vectors_are_those_that_the_program_makes():
    assert BOXES == make_vectors.boxes()
    assert json.loads((FOLDER / "keys.json").read_text()) == make_vectors.keys()


def test_names_of_vectors_are_unique():
    assert len({vector["name"] for vector in BOXES}) == len(BOXES)


@pytest.mark.parametrize("name", ["vault-file", "vault-passphrase"])
def test_whole_vault(checked_in, name):
    data, config, expected = checked_in(name)
    found = read_vault(data, config, expected.pop("passphrase"))
    for secret in found["secrets"].values():
        del secret["id"]
    assert {field: found[field] for field in expected} == expected


def test_passphrase_is_normalised_and_needed(checked_in):
    data, config, expected = checked_in("vault-passphrase")
    assert "cafe\u0301" in expected["passphrase"]
    assert read_vault(data, config, expected["passphrase"].replace("e\u0301", "\u00e9"))["secrets"]
    for passphrase, kind in ((None, "locked"), ("another one", "wrong_passphrase")):
        with pytest.raises(VaultError) as error:
            read_vault(data, config, passphrase)
        assert error.value.kind == kind
