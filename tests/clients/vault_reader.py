"""Reads a vault or a server's store. It was written from src/rust/vault/FORMAT.md and nothing else; the comments name
that document's sections.

    python vault_reader.py DATA CONFIG      prints everything in it as JSON, values included

It shows that the document is enough, finds what the package must find, and gets at secrets without the package.
"""
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import sqlite3
import stat
import sys
import tempfile
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class VaultError(Exception):
    """Why a vault cannot be read; `kind` is what the class of R's error has after `dkusecrets_error_`."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class BoxError(Exception):
    """Why a box does not open, in the document's word."""


def read_vault(data, config, passphrase=None):
    """Everything in a vault: its settings, and by name each secret with its state and the values of all versions."""
    data, config = check_directories(data, config)
    # Before the transaction, as it must not be newer than what is read there.
    anchor = read_private(config / "anchor")
    vault = Vault(read_rows(data / "vault.db"), anchor, config, passphrase)
    if "owner" not in vault.directory:
        raise VaultError("server_store", "this is a store of many people")
    user = vault.fact("owner", 2).bytes(16)
    epoch, commitment = user_fact(vault, user)[:2]
    user_key = vault.open_row(vault.root, b"\x02" + user + u32(epoch), commitment)
    vault.check_anchor(vault.store, vault.settings["sequence"])
    return {"store": vault.store.hex(), **read_person(vault, user, user_key)}


def read_store(data, config, passphrase=None):
    """Everything in a server's store that no server has open: what the server knows, by its names; by their ids the
    people, each as `read_vault` has its owner; the audit log. ("Stores")"""
    data, config = check_directories(data, config)
    with not_served(config), tempfile.TemporaryDirectory() as copy:
        anchor = read_private(config / "anchor")
        # What a server that was killed has left is applied to the copy.
        for name in ("store.db", "store.db-wal"):
            if os.path.lexists(data / name):
                check_private(data / name, stat.S_ISREG)
                (pathlib.Path(copy) / name).touch(0o600)
                shutil.copyfile(data / name, pathlib.Path(copy) / name)
        vault = Vault(read_rows(pathlib.Path(copy) / "store.db", "rw"), anchor, config, passphrase, is_store=True)
    vault.check_anchor(vault.store, vault.settings["sequence"])
    documents, people = {}, {}
    for name in sorted(vault.directory):
        kind, _, of = name.partition(":")
        if kind == "document":
            documents[of] = text(vault.fact(name, 4).bytes())
        elif kind == "user":
            user = bytes.fromhex(of)
            epoch, commitment, uid, created = user_fact(vault, user)
            user_key = vault.open_row(vault.root, b"\x02" + user + u32(epoch), commitment)
            people[of] = {"uid": uid, "created": created, **read_person(vault, user, user_key)}
    return {"store": vault.store.hex(), "documents": documents, "people": people, "log": read_log(vault)}


def user_fact(vault, user):
    """Epoch and commitment of a person's key, user id of the operating system and time at creation."""
    found = vault.fact(f"user:{user.hex()}", 1)
    return found.unsigned(), found.bytes(32), found.unsigned(), found.signed()


def read_person(vault, user, user_key):
    """The settings and the secrets of a person. ("Entries of an index of secrets")"""
    settings, secrets = vault.index(user, user_key, check=True)
    secrets = {name: read_secret(vault, user, user_key, secrets[name]) for name in sorted(secrets)}
    return {**settings, "secrets": secrets}


def read_secret(vault, user, user_key, entry):
    secret_id = entry.bytes(16)

    def version():
        number, created, expires = entry.unsigned(), entry.signed(), entry.option(entry.signed)
        plain = vault.open_row(user_key, b"\x03" + user + secret_id + u64(number), entry.bytes(32))
        if plain[:1] != b"\x01" or b"\0" in plain or len(plain) > 1 + 1_048_576:
            raise damaged("a record holds no text")
        return {"version": number, "created": created, "expires": expires, "value": text(plain[1:])}

    secret = {
        "id": secret_id.hex(),
        "description": entry.text(),
        "created": entry.signed(),
        "updated": entry.signed(),
        "removed": entry.option(lambda: (entry.signed(), entry.unsigned())[0]),
        "versions": entry.sequence(version),
    }
    entry.end_with_extra()
    numbers = [version["version"] for version in secret["versions"]]
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise damaged("the versions of a secret are not in sequence")
    return secret


def read_log(vault):
    """The events of the audit log, each vouched for by the next, the last by the head. ("The audit log")"""
    key = subkey(vault.root, b"audit")
    last, commitment, floor, previous = 0, bytes(32), 0, bytes(32)
    if b"\x08" in vault.rows:
        sequence, box = vault.rows[b"\x08"][:8], vault.rows[b"\x08"][8:]
        head = Fields(vault.open(key, b"\x08" + vault.store + vault.incarnation + sequence, box))
        head.layout()
        last, commitment, floor, previous = head.unsigned(), head.bytes(32), head.unsigned(), head.bytes(32)
        head.end()
        if sequence != u64(last):
            raise damaged("the head of the log has another number than its row")
    vault.check_anchor(bytes(byte ^ 0xFF for byte in vault.store), last)

    events, about = [], set()
    for number in range(floor + 1, last + 1):
        row = b"\x07" + u64(number)
        fields = Fields(vault.open(key, b"\x07" + vault.store + u64(number), vault.row(row)))
        fields.layout()
        if fields.bytes(32) != previous:
            raise damaged(f"event {number - 1} was replaced")
        previous = vault.rows[row][38:70]
        event = {
            "number": number,
            "time": fields.signed(),
            "about": [person.hex() for person in fields.sequence(lambda: fields.take(16))],
            "who": fields.text(),
            "behalf": fields.option(fields.text),
            "from": fields.text(),
            "action": fields.text(),
            "names": fields.sequence(fields.text),
            "outcome": fields.text(),
            "claims": fields.sequence(lambda: [fields.text(), fields.text()]),
        }
        fields.end_with_extra()
        events.append(event)
        about |= {b"\x09" + bytes.fromhex(person) + u64(number) for person in event["about"]}
    if previous != commitment:
        raise damaged(f"event {last} was replaced")
    if sum(row[:1] == b"\x07" for row in vault.rows) != len(events):
        raise damaged("there are events that the head does not know")
    if {row for row in vault.rows if row[:1] == b"\x09"} != about:
        raise damaged("an event is hidden from whom it is about, or shown to others")
    return {"floor": floor, "last": last, "events": events}


class Vault:
    """The rows of a vault or a store, opened and checked, with the root key and the entries of the directory."""

    def __init__(self, rows, anchor, config, passphrase, is_store=False):
        self.rows, self.anchor, self.is_store = rows, anchor, is_store
        store = self.row(b"\0")
        if int.from_bytes(store[:4], "big") > 1:
            raise VaultError("newer_format", "the vault was written by a newer version")
        if len(store) != 36 or store[:4] != u32(1):
            raise damaged("the store's row was changed")
        self.store, self.incarnation = store[4:20], store[20:]
        self.root, number, slot = self.root_key(config, passphrase)
        self.settings, self.directory = self.index(self.store, self.root)
        found = self.fact(f"slot:{number}", 0)
        if (found.bytes(32), found.bytes(32)) != slot:
            raise damaged("the slot is not the one in the directory")

    def fact(self, name, kind):
        """The fields of what the directory says under a name. ("Entries of the directory")"""
        entry = self.directory.get(name)
        if entry is None:
            raise damaged(f"the directory does not know {name}")
        entry = Fields(entry.data)
        fields = Fields(entry.bytes())
        entry.end_with_extra()
        if fields.unsigned() != kind:
            raise damaged(f"the directory does not know {name}")
        return fields

    def row(self, key):
        if key not in self.rows:
            raise damaged(f"row {key.hex()} is missing")
        return self.rows[key]

    def open_row(self, key, row, commitment):
        """What is in the box of a row. The context of its box is the row's key with the store's id put in."""
        box = self.row(row)
        if box[38:70] != commitment:
            raise damaged(f"row {row.hex()} holds another box")
        return self.open(key, row[:1] + self.store + row[1:], box)

    def open(self, key, context, box):
        try:
            return open_box(key, context, box)
        except BoxError as error:
            raise damaged(f"box {context.hex()}: {error}") from None

    def root_key(self, config, passphrase):
        """The root key; the number of the slot that held it, its parameters' hash and its commitment. ("Slots")

        The key's epoch stands before it; a reader has no use for it.
        """
        row = Fields(self.row(b"\x01"))
        slots = row.sequence(lambda: (row.unsigned(), row.bytes(), row.bytes()))
        row.end()
        if len(slots) > 16:
            raise damaged("there are more slots than there may be")
        failed = damaged("there is no slot")
        for number, parameters, box in slots:
            digest = hashlib.sha256(parameters).digest()
            try:
                key, if_wrong = provider_key(Fields(parameters), config, passphrase)
                plain = open_box(key, b"\x01" + self.store + u32(number) + digest, box)
                if len(plain) != 36:
                    raise BoxError("Tampered")
                return plain[4:], number, (digest, box[38:70])
            except BoxError as error:
                kind = if_wrong if str(error) == "WrongKeyOrContext" else "damaged"
                failed = VaultError(kind, f"slot {number}: {error}")
            except VaultError as error:
                failed = error
        raise failed

    def index(self, owner, key, check=False):
        """The settings of an index, and its entries by name, each read up to its name. ("The index")"""
        row = self.row(b"\x04" + owner)
        sequence, box = row[:8], row[8:]
        manifest = Fields(self.open(key, b"\x04" + self.store + owner + self.incarnation + sequence, box))
        manifest.layout()
        commitments, entry_count, byte_count = manifest.bytes(), manifest.unsigned(), manifest.unsigned()
        settings = {
            "sequence": int.from_bytes(sequence, "big"),
            "keep_versions": manifest.unsigned(),
            "keep_days": manifest.unsigned(),
            "last": manifest.signed(),
            "latest": manifest.signed(),
            "ticks": manifest.unsigned(),
            "due": manifest.option(manifest.unsigned),
        }
        manifest.end_with_extra()
        if check:
            self.check_anchor(owner, settings["sequence"])

        pages, rest = divmod(len(commitments), 32)
        if rest or pages.bit_count() != 1:
            raise damaged("the number of pages is no power of two")
        entries, length = {}, 0
        for number in range(pages):
            commitment = commitments[32 * number : 32 * number + 32]
            plain = self.open_row(key, b"\x06" + owner + u32(number), commitment)
            length += len(plain)
            page = Fields(plain)
            page.layout()
            found = [(entry.bytes(), entry) for entry in page.sequence(lambda: Fields(page.bytes()))]
            page.end()
            names = [name for name, _ in found]
            if any(page_of(key, name, pages) != number for name in names) or names != sorted(set(names)):
                raise damaged("names are not where they belong")
            entries |= {text(name): entry for name, entry in found}
        if (len(entries), length) != (entry_count, byte_count):
            raise damaged("pages and manifest differ")
        return settings, entries

    def check_anchor(self, owner, sequence):
        """Refuses a database that is not the one last used. ("The anchor")"""
        key = self.fact("anchor", 3).bytes(32)
        if self.anchor is None:
            if self.is_store or sequence != 1:
                raise VaultError("rolled_back", "the anchor is missing")
            return
        mark = newest_mark(self.anchor, key, self.store, owner)
        if mark is None or mark[0] > sequence or mark[1] != self.incarnation:
            raise VaultError("rolled_back", "the anchor does not know this database, or a newer one")


# "Keys"


def subkey(key, label):
    return HKDF(SHA256(), 32, salt=None, info=b"dkusecrets/v1/" + label).derive(key)


def page_of(key, name, pages):
    tag = hmac.digest(subkey(key, b"page"), name, "sha256")
    return int.from_bytes(tag[:4], "big") % pages


def newest_mark(anchor, key, store, owner):
    """What an anchor says of an index: sequence number and incarnation; None if it does not know it."""
    copies = [anchor[at : at + 128] for at in range(0, len(anchor), 128)]
    marks = [
        (int.from_bytes(copy[36:44], "big"), copy[20:36])
        for copy in copies
        if copy[:20] == u32(1) + owner and hmac.compare_digest(copy[96:], anchor_mac(key, store, copy[:96]))
    ]
    return max(marks, default=None)


def anchor_mac(key, store, fields):
    return hmac.digest(subkey(key, b"anchor"), store + fields, "sha256")


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


# "The sealed box"


def one_time(key, header, salt, context):
    """What a box is bound to, its one-time key and its commitment."""
    bind = b"dkusecrets/box/v1\0" + header + context
    okm = HKDF(SHA256(), 64, salt, bind).derive(subkey(key, b"box"))
    return bind, okm[:32], okm[32:]


def open_box(key, context, box):
    if len(box) < 150 or (len(box) - 86) % 64:
        raise BoxError("Malformed")
    if box[:2] != b"\x01\x01":
        raise BoxError("UnknownFormat")
    bind, derived, commitment = one_time(key, box[:6], box[6:38], context)
    if not hmac.compare_digest(box[38:70], commitment):
        raise BoxError("WrongKeyOrContext")
    try:
        padded = AESGCM(derived).decrypt(bytes(12), box[70:], bind)
    except InvalidTag:
        raise BoxError("Tampered") from None
    plain, mark, zeros = padded.rpartition(b"\x80")
    if not mark or any(zeros) or len(zeros) > 63:
        raise BoxError("Tampered")
    return plain


# "Slots"


def provider_key(parameters, config, passphrase):
    """The key of a slot, and the kind of error if it does not open it."""
    kind = parameters.unsigned()
    if kind == 0:
        key_id = parameters.bytes(8)
        parameters.end()
        return read_key_file(config / f"root-{key_id.hex()}.key", key_id), "damaged"
    if kind != 1:
        raise damaged("a slot is of an unknown kind")
    salt, memory, passes, lanes = parameters.bytes(16), *(parameters.unsigned() for _ in range(3))
    parameters.end()
    if passphrase is None:
        raise VaultError("locked", "a passphrase is needed")
    if memory > 2_097_152 or passes > 16 or lanes > 16:
        raise damaged("a slot asks for too much")
    try:
        argon2 = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
    except ValueError as error:
        raise damaged(f"a slot asks for what Argon2id does not do: {error}") from None
    return argon2.derive(unicodedata.normalize("NFC", passphrase).encode()), "wrong_passphrase"


def read_key_file(path, key_id):
    content = read_private(path)
    if content is None:
        raise VaultError("key_missing", f"{path} is missing")
    found = re.match(rb"dkusecrets root key, format 1\n(?:.*\n)*?key ([0-9a-f]{64})(?:\n|$)", content)
    key = bytes.fromhex(found[1].decode()) if found else b""
    if not key or subkey(key, b"key-id")[:8] != key_id:
        raise VaultError("wrong_key", f"{path} does not hold the key that its name says")
    return key


# "Encoding"


class Fields:
    """The fields of something encoded, read one after the other."""

    def __init__(self, data):
        self.data = data

    def take(self, length):
        if length > len(self.data):
            raise damaged("a field is cut off")
        taken, self.data = self.data[:length], self.data[length:]
        return taken

    def unsigned(self):
        n = shift = 0
        while True:
            byte = self.take(1)[0]
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return n

    def signed(self):
        n = self.unsigned()
        return n >> 1 ^ -(n & 1)

    def bytes(self, length=None):
        found = self.take(self.unsigned())
        if length not in (None, len(found)):
            raise damaged("a field has the wrong length")
        return found

    def text(self):
        return text(self.bytes())

    def option(self, read):
        there = self.take(1)[0]
        if there > 1:
            raise damaged("an option is neither there nor not")
        return read() if there else None

    def sequence(self, read):
        return [read() for _ in range(self.unsigned())]

    def layout(self):
        if self.take(1) != b"\x01":
            raise damaged("an unknown layout")

    def end_with_extra(self):
        """What later versions add; this one passes over it."""
        self.sequence(lambda: (self.unsigned(), self.bytes()))
        self.end()

    def end(self):
        if self.data:
            raise damaged("something follows the last field")


def text(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise damaged("text is not UTF-8") from None


def damaged(what):
    return VaultError("damaged", what)


# "Files" and "The database"


def check_directories(data, config):
    directories = pathlib.Path(data), pathlib.Path(config)
    for directory in filter(os.path.lexists, directories):
        check_private(directory, stat.S_ISDIR)
    return directories


@contextlib.contextmanager
def not_served(config):
    """Keeps servers from a store, and refuses one that is served."""
    with contextlib.ExitStack() as stack:
        if os.path.lexists(config / "store.lock"):
            check_private(config / "store.lock", stat.S_ISREG)
            lock = stack.enter_context(open(config / "store.lock", "rb"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise VaultError("in_use", "a server has the store open") from None
        yield


def check_private(path, is_wanted):
    found = path.lstat()
    if not is_wanted(found.st_mode):
        raise VaultError("path", f"{path} is not what it should be")
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise VaultError("unsafe", f"{path} is open to others, or someone else's")


def read_private(path):
    """A file of the configuration directory; None if it is not there."""
    try:
        check_private(path, stat.S_ISREG)
        return path.read_bytes()
    except FileNotFoundError:
        return None


def read_rows(path, mode="ro"):
    version = 0
    try:
        check_private(path, stat.S_ISREG)
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            rows = database.execute("SELECT key, value FROM row").fetchall()
    except FileNotFoundError:
        raise VaultError("vault_missing", f"{path} is missing") from None
    except sqlite3.DatabaseError as error:
        # SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_NOTADB; the others are not about what is in the file.
        if error.sqlite_errorcode & 0xFF not in (1, 11, 26):
            raise
        # A newer format may have other tables.
        raise VaultError("newer_format" if version > 1 else "damaged", str(error)) from None
    if any(type(cell) is not bytes for row in rows for cell in row):
        raise damaged("a row is no pair of blobs")
    return dict(rows)


if __name__ == "__main__":
    read = read_store if (pathlib.Path(sys.argv[1]) / "store.db").exists() else read_vault
    json.dump(read(*sys.argv[1:3]), sys.stdout, ensure_ascii=False, indent=1)
