"""Which key rings are used, and what happens with those that are not."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keyring
import keyring.backend
import pytest
from keyring.backends import chainer, fail, null

from cocoon_core.errors import NoKeyRingError, ProfileDamagedError
from cocoon_core.protocol.primitives import Secret
from cocoon_core.storage import keystore
from tests.support.key_ring import MemoryRing, posing_as, use_key_ring

ROOT = Path(__file__).resolve().parents[3]
KEY = Secret(bytes(range(32)))
PROFILE = bytes(range(16))


def use(monkeypatch: pytest.MonkeyPatch, ring: keyring.backend.KeyringBackend) -> None:
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)


@pytest.fixture
def safe_ring(monkeypatch: pytest.MonkeyPatch) -> MemoryRing:
    return use_key_ring(monkeypatch)


@pytest.mark.parametrize("module", sorted(keystore.SAFE_BACKENDS))
def test_the_modules_that_are_trusted_are_there(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_a_key_is_kept_found_and_forgotten(safe_ring: MemoryRing) -> None:
    keystore.store_key(PROFILE, KEY)
    assert safe_ring.kept == {("cocoon-sync", PROFILE.hex()): KEY.reveal().hex()}
    assert keystore.load_key(PROFILE) == KEY
    keystore.forget_key(PROFILE)
    assert safe_ring.kept == {}
    keystore.forget_key(PROFILE)
    with pytest.raises(NoKeyRingError, match="not in this key ring"):
        keystore.load_key(PROFILE)


@pytest.mark.parametrize(
    "ring",
    [
        fail.Keyring(),  # type: ignore[no-untyped-call]
        null.Keyring(),  # type: ignore[no-untyped-call]
        posing_as("keyrings.alt.file"),
        posing_as("keyrings.alt.Gnome"),
        posing_as("keyring_pass"),
        posing_as(__name__),
        posing_as("keyring.backends.SecretService", priority=0.5),
        posing_as("keyring.backends.SecretService.evil"),
    ],
    ids=lambda ring: f"{type(ring).__module__} {ring.priority}",
)
def test_a_ring_that_is_not_known_to_encrypt_gets_no_key(
    monkeypatch: pytest.MonkeyPatch, ring: keyring.backend.KeyringBackend
) -> None:
    use(monkeypatch, ring)
    for attempt in (
        keystore.require_key_ring,
        lambda: keystore.store_key(PROFILE, KEY),
        lambda: keystore.load_key(PROFILE),
    ):
        with pytest.raises(NoKeyRingError, match="COCOON_PASSPHRASE"):
            attempt()
    assert getattr(ring, "kept", {}) == {}


SAFE = posing_as("keyring.backends.SecretService")


@pytest.mark.parametrize(
    ("members", "allowed"),
    [
        ([SAFE, posing_as("keyring.backends.kwallet")], True),
        ([SAFE, posing_as("keyrings.alt.file")], False),
        ([posing_as("keyrings.alt.file"), SAFE], False),
        ([], False),
    ],
)
def test_of_a_chain_every_ring_must_be_safe(
    monkeypatch: pytest.MonkeyPatch, members: list[keyring.backend.KeyringBackend], allowed: bool
) -> None:
    monkeypatch.setattr(chainer.ChainerBackend, "backends", members)
    use(monkeypatch, chainer.ChainerBackend())  # type: ignore[no-untyped-call]
    if allowed:
        keystore.require_key_ring()
    else:
        with pytest.raises(NoKeyRingError):
            keystore.require_key_ring()


def refuse(*_: object) -> None:
    raise RuntimeError("the collection is locked: hunter2")


def test_a_ring_that_fails_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, posing_as("keyring.backends.kwallet", get_password=refuse, set_password=refuse))
    for attempt in (lambda: keystore.store_key(PROFILE, KEY), lambda: keystore.load_key(PROFILE)):
        with pytest.raises(NoKeyRingError) as caught:
            attempt()
        assert "hunter2" not in str(caught.value)
    monkeypatch.setattr(keyring, "get_keyring", refuse)
    with pytest.raises(NoKeyRingError):
        keystore.require_key_ring()


def test_a_ring_that_forgets_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, posing_as("keyring.backends.libsecret", get_password=lambda *_: None))
    with pytest.raises(NoKeyRingError, match="does not keep"):
        keystore.store_key(PROFILE, KEY)


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_what_is_no_key_is_damage(safe_ring: MemoryRing, text: str) -> None:
    safe_ring.set_password(keystore.SERVICE, PROFILE.hex(), text)
    with pytest.raises(ProfileDamagedError):
        keystore.load_key(PROFILE)


def test_keyring_is_not_imported_before_it_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from cocoon_core.storage import Cost, Profile\n"
        f"Profile.create({str(tmp_path)!r}, 'x', cost=Cost(2, 19456)).close()\n"
        f"Profile.open({str(tmp_path)!r}, 'x').close()\n"
        "sys.exit('keyring' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.skipif(
    not (shutil.which("gnome-keyring-daemon") and shutil.which("dbus-run-session")),
    reason="no gnome-keyring and dbus here",
)
def test_a_profile_lives_in_a_real_secret_service(tmp_path: Path) -> None:
    code = (
        "from cocoon_core.storage import Profile\n"
        f"home = {str(tmp_path / 'profile')!r}\n"
        "with Profile.create(home) as profile: profile.database.execute('CREATE TABLE t (x)')\n"
        "with Profile.open(home) as profile: profile.database.execute('INSERT INTO t VALUES (1)')\n"
        "with Profile.open(home) as profile: profile.change_passphrase('new')\n"
        "with Profile.open(home, 'new') as profile: print(profile.database.query('SELECT * FROM t'))\n"
    )
    (tmp_path / "use.py").write_text(code)
    (tmp_path / "runtime").mkdir(mode=0o700)
    script = (
        f"printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null; {sys.executable} {tmp_path}/use.py"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_KEYRING_BACKEND"} | {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_RUNTIME_DIR": str(tmp_path / "runtime"),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "[(1,)]", done.stderr
