import json

import jwt
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select, text

from fedplan.errors import SettingsError
from fedplan.grid import Settings
from fedplan.grid.secrets.sealing import SEALED, Seal, seal_of
from fedplan.grid.store import Store, catalogue
from fedplan.grid.store.sealed import opened_secret
from fedplan.grid.store.tables import keys
from tests.grid.databases import database_of, only_sqlite
from tests.grid.models import hosting

OLD, NEW = "an old key of at least 32 characters", "a new key of at least 32 characters!"
SECRET = "hunter2 and more, to be thirty-two bytes"


class TestASeal:
    def test_opens_what_it_has_sealed_and_seals_it_otherwise_each_time(self):
        seal = Seal([OLD])
        sealed = {seal.seal(SECRET.encode(), "p") for _ in range(10)}
        assert len(sealed) == 10
        assert {seal.open(each, "p") for each in sealed} == {SECRET.encode()}
        assert not any(SECRET.encode() in each for each in sealed)

    def test_leaves_secrets_as_they_are_where_it_has_no_key(self):
        assert Seal().seal(b"x", "p") == b"x"
        assert Seal([OLD]).open(b"x", "p") == b"x"

    def test_opens_with_older_keys_and_seals_with_the_first(self):
        sealed, both = Seal([OLD]).seal(b"x", "p"), Seal([NEW, OLD])
        assert both.open(sealed, "p") == b"x"
        assert not both.is_current(sealed)
        assert both.is_current(both.seal(b"x", "p"))
        assert Seal([NEW]).open(both.seal(b"x", "p"), "p") == b"x"

    @pytest.mark.parametrize("keys", [[], [NEW]])
    def test_says_when_it_has_not_the_key(self, keys):
        with pytest.raises(SettingsError, match=r"encrypted under another key: .* FEDPLAN_SECRET_KEY"):
            Seal(keys).open(Seal([OLD]).seal(b"x", "p"), "p")

    def test_finds_out_what_was_changed_or_put_elsewhere(self):
        seal = Seal([OLD])
        sealed = seal.seal(b"x", "p")
        head = sealed[: sealed.rindex(b":") + 1]
        for changed, purpose in (
            (sealed, "q"),
            (sealed[:-4] + b"AAA=", "p"),
            (head, "p"),
            (head + b"!", "p"),
        ):
            with pytest.raises(SettingsError, match="was changed"):
                seal.open(changed, purpose)


class TestTheKeyOfAGrid:
    def test_is_made_in_its_folder_for_its_owner_alone(self, tmp_path):
        settings = Settings(data_dir=tmp_path / "data")
        sealed = seal_of(settings).seal(b"x", "p")
        assert seal_of(settings).open(sealed, "p") == b"x"
        file = tmp_path / "data" / "grid.key"
        assert file.stat().st_mode & 0o777 == 0o600
        assert list((tmp_path / "data").iterdir()) == [file]

    def test_may_be_given(self, tmp_path):
        file = tmp_path / "key"
        file.write_text(f"{NEW},\n{OLD}\n")
        file.chmod(0o600)
        sealed = seal_of(Settings(data_dir=tmp_path / "data", secret_key=OLD)).seal(b"x", "p")
        assert seal_of(Settings(data_dir=tmp_path / "data", secret_key_file=file)).open(sealed, "p") == b"x"
        assert not (tmp_path / "data").exists()

    async def test_is_told_to_be_missing_where_several_machines_need_the_same(self, open_grid, caplog):
        async with open_grid() as peer:  # with a database_url
            assert not peer.app.state.grid.seal.has_key
        assert "FEDPLAN_SECRET_KEY" in caplog.text

    def test_that_cannot_be_used_is_refused_and_not_told(self, tmp_path):
        short, open_to_all = tmp_path / "short", tmp_path / "open"
        short.write_text("hunter2")
        short.chmod(0o600)
        open_to_all.write_text(OLD)
        open_to_all.chmod(0o644)
        for settings, why in (
            ({"secret_key": "hunter2"}, "FEDPLAN_SECRET_KEY needs keys of at least 32 characters"),
            ({"secret_key": f"{OLD},"}, "at least 32 characters"),
            ({"secret_key_file": short}, "at least 32 characters"),
            ({"secret_key_file": open_to_all}, "can be read by other users: chmod 600"),
            ({"secret_key_file": tmp_path / "missing"}, "cannot be read: No such file"),
        ):
            with pytest.raises(SettingsError, match=why) as error:
                seal_of(Settings(data_dir=tmp_path, **settings))
            assert "hunter2" not in str(error.value)


class TestTheDatabase:
    @pytest.fixture
    async def url(self, tmp_path):
        return await database_of(tmp_path)

    async def stored(self, url):
        """The grid's key and the model's secret, as they are stored."""
        store = await Store.open(url, None)
        async with store.reading() as db:
            key = await db.scalar(select(keys.c.value).where(keys.c.name == "grid"))
            config = await db.scalar(text("SELECT server_config FROM processes"))
        await store.aclose()
        return bytes(key), json.loads(config)["authentication"]["secret"]

    async def opened(self, url, *keys):
        """The same, as a grid knows them that has some keys."""
        seal = Seal(keys)
        store = await Store.open(url, seal)
        try:
            async with store.reading() as db:
                config = (await catalogue.get_process(db, 1)).server_config
            return store.secret, opened_secret(config.authentication.secret, seal)
        finally:
            await store.aclose()

    async def test_has_no_secret_in_clear_and_a_grid_checks_tokens_all_the_same(
        self, open_grid, url, tmp_path
    ):
        async with open_grid(secret_key=OLD) as peer:
            await peer.host(server={"authentication": {"secret": SECRET}})
            for secret, status in ((SECRET, 200), (SECRET[::-1], 401)):
                token = jwt.encode({"exp": 4_000_000_000}, secret, "HS256")
                reply = await peer.post("authenticate", model_name="m", auth_token=token)
                assert reply.status_code == status
            own = peer.app.state.grid.store.secret
        key, secret = await self.stored(url)
        assert key.startswith(SEALED.encode())
        assert secret.startswith(SEALED)
        assert own not in key
        assert await self.opened(url, OLD) == (own, SECRET)

    @only_sqlite
    async def test_of_an_older_grid_is_sealed_and_forgets_what_stood_there(self, open_grid, url, tmp_path):
        async with open_grid() as peer:  # it has a database of its own choice, and no key
            await peer.host(server={"authentication": {"secret": SECRET}})
            own = peer.app.state.grid.store.secret
        assert await self.stored(url) == (own, SECRET)
        assert await self.opened(url, OLD) == (own, SECRET)
        written = [path.read_bytes() for path in tmp_path.glob("grid.db*")]
        assert not any(own in content or SECRET.encode() in content for content in written)

    async def test_changes_its_key_when_it_is_started_with_both(self, open_grid, url):
        async with open_grid(secret_key=OLD) as peer:
            await peer.host(server={"authentication": {"secret": SECRET}})
        before = await self.opened(url, OLD)
        assert await self.opened(url, NEW, OLD) == before
        assert await self.opened(url, NEW) == before
        for others in ((OLD,), ()):
            with pytest.raises(SettingsError, match="under another key"):
                await self.opened(url, *others)

    async def test_changes_its_key_while_replicas_are_started_anew_one_by_one(self, open_grid, url):
        async with open_grid(secret_key=OLD) as peer:
            await peer.host(server={"authentication": {"secret": SECRET}})
        for older, newer in ((OLD, f"{OLD},{NEW}"), (f"{OLD},{NEW}", f"{NEW},{OLD}"), (f"{NEW},{OLD}", NEW)):
            async with open_grid(secret_key=older) as one, open_grid(secret_key=newer) as other:
                for peer in (one, other):
                    token = jwt.encode({"exp": 4_000_000_000}, SECRET, "HS256")
                    assert await peer.authenticate(auth_token=token)
        with pytest.raises(SettingsError, match="under another key"):
            await self.opened(url, OLD)

    async def test_has_no_secret_that_looks_as_if_it_were_sealed(self, open_grid):
        async with open_grid() as peer:
            server = {"authentication": {"secret": SEALED + "x" * 40}}
            reply = await peer.post("host-training", **hosting(server=server))
            assert reply.status_code == 400
            assert "choose another" in reply.json()["error"]


def test_it_is_aes_with_256_bits():
    assert all(isinstance(cipher, AESGCM) for cipher in Seal([OLD])._ciphers.values())
