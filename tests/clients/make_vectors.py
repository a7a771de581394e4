"""Writes box.json and keys.json of src/rust/vault/vectors: python make_vectors.py

The vectors come from this implementation, and the tests of Rust and Python check both against them. Vectors are
added at the end, never changed: this program refuses to write files in which an old one would differ.
"""
import hashlib
import hmac
import json
import pathlib

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vault_reader import anchor_mac, one_time, page_of, subkey, u32, u64

FOLDER = pathlib.Path(__file__).parents[2] / "src/rust/vault/vectors"


def made_up(what, length):
    """Bytes that anyone can make again."""
    return hashlib.shake_128(what.encode()).digest(length)


STORE, USER, SECRET, INCARNATION = (made_up(f"{what} id", 16) for what in ("store", "user", "secret", "incarnation"))
KEY = made_up("key", 32)


def pad(plaintext):
    return plaintext + b"\x80" + bytes(63 - len(plaintext) % 64)


def seal_padded(key, epoch, context, padded, salt):
    header = b"\x01\x01" + u32(epoch)
    bind, derived, commitment = one_time(key, header, salt, context.bytes())
    return header + salt + commitment + AESGCM(derived).encrypt(bytes(12), padded, bind)


def seal(key, epoch, context, plaintext, salt):
    return seal_padded(key, epoch, context, pad(plaintext), salt)


# What a box may hold: the first byte of its context, then how its fields are written.
KINDS = {
    "slot": (1, {"store": bytes, "slot": u32, "parameters": bytes}),
    "user key": (2, {"store": bytes, "user": bytes, "epoch": u32}),
    "record": (3, {"store": bytes, "user": bytes, "secret": bytes, "version": u64}),
    "manifest": (4, {"store": bytes, "owner": bytes, "incarnation": bytes, "sequence": u64}),
    "page": (6, {"store": bytes, "owner": bytes, "page": u32}),
    "event": (7, {"store": bytes, "number": u64}),
    "audit head": (8, {"store": bytes, "incarnation": bytes, "number": u64}),
}


class Context:
    def __init__(self, holds, **fields):
        self.holds, self.fields = holds, fields

    def bytes(self):
        tag, write = KINDS[self.holds]
        return bytes([tag]) + b"".join(write[name](self.fields[name]) for name in write)

    def json(self):
        fields = {name: value.hex() if type(value) is bytes else value for name, value in self.fields.items()}
        return {"holds": self.holds, **fields}

    def but(self, **fields):
        return Context(self.holds, **{**self.fields, **fields})


CONTEXTS = {
    "slot": Context("slot", store=STORE, slot=1, parameters=made_up("parameters", 32)),
    "user key": Context("user key", store=STORE, user=USER, epoch=1),
    "record": Context("record", store=STORE, user=USER, secret=SECRET, version=3),
    "manifest": Context("manifest", store=STORE, owner=USER, incarnation=INCARNATION, sequence=2**32 + 5),
    "page": Context("page", store=STORE, owner=USER, page=7),
}
# Of stores only.
STORE_CONTEXTS = {
    "event": Context("event", store=STORE, number=2**32 + 7),
    "audit head": Context("audit head", store=STORE, incarnation=INCARNATION, number=2**32 + 7),
}
RECORD = CONTEXTS["record"]


def vector(name, context, box, result, plaintext=None, key=KEY, epoch=1):
    return {
        "name": name,
        "key": key.hex(),
        "epoch": epoch,
        "context": context.json(),
        "context_bytes": context.bytes().hex(),
        "salt": box[6:38].hex(),
        "plaintext": None if plaintext is None else plaintext.hex(),
        "box": box.hex(),
        "result": result,
    }


def good_boxes():
    def good(name, context, plaintext, epoch=1):
        box = seal(KEY, epoch, context, plaintext, made_up(f"salt of {name}", 32))
        return vector(name, context, box, "ok", plaintext, epoch=epoch)

    for holds, context in CONTEXTS.items():
        yield good(f"a {holds}", context, made_up(f"a {holds}", 32))
    yield good("no plaintext", RECORD, b"")
    yield good("an empty value", RECORD, b"\x01")
    yield good("a value with more than ASCII", RECORD, b"\x01" + "p\u00e4ss\n\U0001f511 \u05e9\u05dc\u05d5\u05dd".encode())
    yield good("a plaintext that ends as padding does", RECORD, b"\x01abc\x80\0\0")
    for length in (63, 64, 65, 1024):
        yield good(f"{length} bytes", RECORD, made_up("plaintext", length))
    for epoch in (2, 2**32 - 1):
        yield good(f"epoch {epoch}", RECORD, b"\x01value", epoch)


def with_other_fields(contexts, plaintext, salt):
    for holds, context in contexts.items():
        sealed = seal(KEY, 1, context, plaintext, salt)
        for field, value in context.fields.items():
            other = value + 1 if type(value) is int else made_up(f"another {field}", len(value))
            yield vector(f"a {holds} with another {field}", context.but(**{field: other}), sealed, "WrongKeyOrContext")


def bad_boxes():
    plaintext = b"\x01value"
    salt = made_up("salt of the bad", 32)
    box = seal(KEY, 1, RECORD, plaintext, salt)

    def flipped(at):
        changed = bytearray(box)
        changed[at] ^= 1
        return bytes(changed)

    yield vector("another key", RECORD, box, "WrongKeyOrContext", key=made_up("another key", 32))
    # What a second key decrypts is still refused: the commitment is to one key.
    yield vector("a key in place of its subkey", RECORD, box, "WrongKeyOrContext", key=subkey(KEY, b"box"))
    yield from with_other_fields(CONTEXTS, plaintext, salt)
    page = Context("page", store=STORE, owner=USER, page=1)
    sealed = seal(KEY, 1, CONTEXTS["user key"], plaintext, salt)
    yield vector("a user key as a page with the same fields", page, sealed, "WrongKeyOrContext")

    for name, at in {"epoch": 5, "first byte of the salt": 6, "last byte of the salt": 37}.items():
        yield vector(f"flipped: {name}", RECORD, flipped(at), "WrongKeyOrContext")
    for name, at in {"first byte of the commitment": 38, "last byte of the commitment": 69}.items():
        yield vector(f"flipped: {name}", RECORD, flipped(at), "WrongKeyOrContext")
    places = {"first byte of the ciphertext": 70, "last byte of the ciphertext": -17, "first byte of the tag": -16}
    for name, at in {**places, "last byte of the tag": -1}.items():
        yield vector(f"flipped: {name}", RECORD, flipped(at), "Tampered")

    # Sealed with the right key, and padded as no writer does.
    paddings = {
        "no mark": plaintext + bytes(58),
        "nothing but zeroes": bytes(64),
        "another mark": plaintext + b"\x81" + bytes(57),
        "something after the mark": plaintext + b"\x80" + bytes(56) + b"\x01",
        "more than the last 64 bytes": plaintext + b"\x80" + bytes(57 + 64),
    }
    for name, padded in paddings.items():
        yield vector(f"padding: {name}", RECORD, seal_padded(KEY, 1, RECORD, padded, salt), "Tampered")

    long = seal(KEY, 1, RECORD, made_up("plaintext", 64), salt)
    yield vector("cut by 64 bytes", RECORD, long[:-64], "Tampered")
    yield vector("longer by 64 bytes", RECORD, box + bytes(64), "Tampered")
    for name, cut in {"cut by a byte": box[:-1], "longer by a byte": box + b"\0", "without padding": long[:86]}.items():
        yield vector(name, RECORD, cut, "Malformed")
    yield vector("a header alone", RECORD, box[:6], "Malformed")
    yield vector("nothing", RECORD, b"", "Malformed")

    for name, header in {"version 0": b"\0\1", "version 2": b"\2\1", "suite 0": b"\1\0", "suite 2": b"\1\2"}.items():
        yield vector(name, RECORD, header + box[2:], "UnknownFormat")
    yield vector("cut by a byte, version 2", RECORD, b"\2" + box[1:-1], "Malformed")


def boxes_of_the_log():
    for holds, context in STORE_CONTEXTS.items():
        plaintext = made_up(f"a {holds}", 200)
        box = seal(KEY, 1, context, plaintext, made_up(f"salt of a {holds}", 32))
        yield vector(f"a {holds}", context, box, "ok", plaintext)
        yield vector(f"a {holds} under another key", context, box, "WrongKeyOrContext", key=made_up("another key", 32))
        yield vector(f"a {holds}, the tag changed", context, box[:-1] + bytes([box[-1] ^ 1]), "Tampered")
        yield vector(f"a {holds}, cut by 64 bytes", context, box[:-64], "Tampered")
        yield vector(f"a {holds}, cut by a byte", context, box[:-1], "Malformed")
        yield vector(f"a {holds}, version 2", context, b"\2" + box[1:], "UnknownFormat")
    salt = made_up("salt of the bad of the log", 32)
    yield from with_other_fields(STORE_CONTEXTS, b"event or head", salt)
    event, head = STORE_CONTEXTS.values()
    yield vector("a head as an event", event, seal(KEY, 1, head, b"head", salt), "WrongKeyOrContext")
    yield vector("an event as a head", head, seal(KEY, 1, event, b"event", salt), "WrongKeyOrContext")
    # The same fields but for the first byte.
    manifest = Context("manifest", store=STORE, owner=USER, incarnation=INCARNATION, sequence=7)
    record = Context("record", store=STORE, user=USER, secret=INCARNATION, version=7)
    box = seal(KEY, 1, record, b"record", salt)
    yield vector("a record as a manifest with the same fields", manifest, box, "WrongKeyOrContext")


def boxes():
    return [*good_boxes(), *bad_boxes(), *boxes_of_the_log()]


def cells():
    """Cells of an anchor: two copies each, one after the other, and the mark that they make."""

    def copy(owner, sequence, incarnation=INCARNATION, store=STORE, key=KEY):
        fields = u32(1) + owner + incarnation + u64(sequence) + bytes(52)
        return fields + anchor_mac(key, store, fields)

    def of_format(number, owner, sequence):
        fields = u32(number) + owner + INCARNATION + u64(sequence) + bytes(52)
        return fields + anchor_mac(KEY, STORE, fields)

    def torn(copy):
        return copy[:40] + bytes(4) + copy[44:]

    log = bytes(byte ^ 0xFF for byte in STORE)
    other = made_up("another incarnation", 16)
    store, key = made_up("another store", 16), made_up("another key", 32)
    nine = copy(USER, 9)
    no_subkey = nine[:96] + hmac.digest(KEY, STORE + nine[:96], "sha256")
    high = 2**32
    # Whose cell it is, its copies, the sequence number that counts.
    made = {
        "a new index": (STORE, copy(STORE, 1) * 2, 1),
        "somebody who is being added": (USER, copy(USER, 0) * 2, 0),
        "the log, whose owner is the store inverted": (log, copy(log, high + 7) + copy(log, high + 6), high + 7),
        "the second copy is newer": (USER, copy(USER, high - 2) + copy(USER, high + 1), high + 1),
        "the second copy is newer and torn": (USER, copy(USER, 8) + torn(nine), 8),
        "the first copy is newer and torn": (USER, torn(copy(USER, 10)) + nine, 9),
        "the first copy is empty": (USER, bytes(128) + nine, 9),
        "both copies are torn": (USER, torn(copy(USER, 10)) + torn(nine), None),
        "another incarnation": (USER, copy(USER, 9, other) * 2, 9),
        "of another store": (USER, copy(USER, 9, store=store) * 2, None),
        "under another key": (USER, copy(USER, 9, key=key) * 2, None),
        "the key itself and not its subkey": (USER, no_subkey * 2, None),
        "of somebody else": (USER, copy(SECRET, 9) * 2, None),
        "a changed incarnation": (USER, (nine[:20] + other + nine[36:]) * 2, None),
        "a changed byte before the MAC": (USER, (nine[:95] + b"\1" + nine[96:]) * 2, None),
        "the newer copy is of another format": (USER, of_format(2, USER, 10) + nine, 9),
        "both copies are of another format": (USER, of_format(2, USER, 10) + of_format(0, USER, 9), None),
    }
    for name, (owner, cell, sequence) in made.items():
        fields = {"anchor_key": KEY, "store": STORE, "owner": owner, "cell": cell}
        incarnation = other if name == "another incarnation" else INCARNATION
        mark = None if sequence is None else {"sequence": sequence, "incarnation": incarnation.hex()}
        yield {"name": name, **{field: value.hex() for field, value in fields.items()}, "mark": mark}


def keys():
    subkeys = [
        {"key": key.hex(), "label": f"dkusecrets/v1/{label}", "subkey": subkey(key, label.encode()).hex()}
        for labels in (("box", "page", "anchor", "key-id"), ("token", "audit"))
        for key in (KEY, bytes(32))
        for label in labels
    ]
    names = ("api-key", "", "\u00e9", "\U0001f511", "n" * 255)
    pages = [
        {"key": KEY.hex(), "name": name, "pages": count, "page": page_of(KEY, name.encode(), count)}
        for name in names
        for count in (1, 2, 64, 2**16)
    ]
    anchors = []
    for owner, sequence in ((STORE, 1), (USER, 2**32 + 5)):
        mac = anchor_mac(KEY, STORE, u32(1) + owner + INCARNATION + u64(sequence) + bytes(52))
        fields = {"anchor_key": KEY, "store": STORE, "owner": owner, "incarnation": INCARNATION, "mac": mac}
        anchors.append({name: value.hex() for name, value in fields.items()} | {"sequence": sequence})
    return {"subkey": subkeys, "page": pages, "anchor": anchors, "cell": list(cells())}


def appended(new, old):
    """Whether nothing in `old` is changed in `new`."""
    if isinstance(old, dict):
        return all(name in new and appended(new[name], value) for name, value in old.items())
    return new[: len(old)] == old


def main():
    for name, new in {"box.json": boxes(), "keys.json": keys()}.items():
        path = FOLDER / name
        if path.exists() and not appended(new, json.loads(path.read_text())):
            raise SystemExit(f"{name}: a vector would change; make it a new one at the end")
        path.write_text(json.dumps(new, indent=1) + "\n")
        print(f"{name}: {sum(map(len, new.values())) if isinstance(new, dict) else len(new)} vectors")


if __name__ == "__main__":
    main()
