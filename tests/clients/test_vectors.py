"""The test vectors of src/rust/vault/vectors, which the vault's own tests read as well."""
import json
import shutil

import pytest

import make_vectors
from vault_reader import BoxError, VaultError, newest_mark, open_box, read_store, read_vault

FOLDER = make_vectors.FOLDER
BOXES = json.loads((FOLDER / "box.json").read_text())
KEYS = json.loads((FOLDER / "keys.json").read_text())


def copy_private(name, home):
    """A private copy of a whole vault or store in a directory; what is expected in it."""
    for part in ("data", "config"):
        shutil.copytree(FOLDER / name / part, home / part, copy_function=shutil.copyfile)
        for path in (home / part).iterdir():
            path.chmod(0o600)
        (home / part).chmod(0o700)
    return json.loads((FOLDER / name / "expected.json").read_text())


@pytest.fixture
def checked_in(tmp_path):
    """A private copy of a whole vault or store: its directories, and what is expected in it."""

    def copy(name):
        expected = copy_private(name, tmp_path)
        return tmp_path / "data", tmp_path / "config", expected

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
    assert KEYS == make_vectors.keys()


def test_names_of_vectors_are_unique():
    for vectors in (BOXES, KEYS["cell"]):
        assert len({vector["name"] for vector in vectors}) == len(vectors)


@pytest.mark.parametrize("vector", KEYS["cell"], ids=lambda vector: vector["name"])
def test_cell(vector):
    key, store, owner, cell = (bytes.fromhex(vector[field]) for field in ("anchor_key", "store", "owner", "cell"))
    mark = vector["mark"]
    expected = mark and (mark["sequence"], bytes.fromhex(mark["incarnation"]))
    assert newest_mark(cell, key, store, owner) == expected
    # Among other cells, in any order.
    for others in (vector["cell"] for vector in KEYS["cell"] if vector["owner"] != owner.hex()):
        assert newest_mark(bytes.fromhex(others) + cell, key, store, owner) == expected


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


def test_whole_store(checked_in):
    data, config, expected = checked_in("store")
    found = read_store(data, config)
    people = found.pop("people")
    for person in people.values():
        for secret in person["secrets"].values():
            del secret["id"]
    assert {person: {"secrets": of["secrets"]} for person, of in people.items()} == expected.pop("people")
    assert found == expected
    # What the people and the log of it are for.
    assert len(people) == 3 and found["log"]["floor"] > 0
    logins = [json.loads(found["documents"][name]) for name in found["documents"] if name.startswith("person:")]
    assert {bytes(one["id"]).hex() for one in logins} == set(people)
