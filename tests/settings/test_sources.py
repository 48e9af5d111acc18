"""The sources of settings, and which of them takes precedence."""

import os
from pathlib import Path

import pytest

from poller.settings.sources import EnvSources
from tests.support.config_builders import (
    KEY,
    SECRET,
    URL,
    WEBHOOK,
    load_errors,
    load_with,
    write_file,
)


def key_of(config):
    """Return the text of the API key."""
    return config.key().get_secret_value()


def origin_of(config, variable):
    """Return the origin of the value of a variable."""
    return config.sourced[variable].origin


def test_environment_takes_precedence_over_the_env_file(tmp_path: Path):
    """The process environment comes before the env file, which comes before the default."""
    env_file = Path(
        write_file(tmp_path / "env", "POLLER_CONCURRENCY=3\nPOLLER_EVENT_ID_NAMESPACE='blue'\n")
    )

    config = load_with(env_file=env_file, POLLER_CONCURRENCY="4")

    assert (config.settings.concurrency, config.settings.event_id_namespace) == (4, "blue")
    assert origin_of(config, "POLLER_CONCURRENCY") == "environment"
    assert origin_of(config, "POLLER_EVENT_ID_NAMESPACE") == f"env file {env_file}"
    assert origin_of(config, "POLLER_STORE") == "default"


def test_variable_names_are_case_sensitive():
    """A variable in lower case is not a setting: it counts as misspelt."""
    problems = load_errors(poller_concurrency="3", Poller_Store="/elsewhere", sutro_api_url=URL)

    assert problems == tuple(
        f"{name}: unknown variable; did you mean {name.upper()}?"
        for name in ("Poller_Store", "poller_concurrency", "sutro_api_url")
    )


def test_variables_in_lower_case_of_other_programs_are_ignored():
    """A name in lower case that resembles no setting, or one that is set, is not ours."""
    config = load_with(
        poller_of_the_village="3", poller_concurrency="3", POLLER_CONCURRENCY="4", HTTP_PROXY=""
    )

    assert config.settings.concurrency == 4


def test_env_file_line_without_assignment_is_an_error(tmp_path: Path):
    """Each such line is an error with its number; the other lines are valid."""
    good = "export POLLER_EVENT_ID_NAMESPACE=blue\nPOLLER_PROXY=\n"
    text = f"# ours\n\nPOLLER_CONCURRENCY 3\n\n{good}POLLER_STORE\n"
    env_file = Path(write_file(tmp_path / "env", text))

    problems = load_errors(env_file=env_file)

    rule = "must be NAME=value"
    assert problems == tuple(f"--env-file: {env_file}, line {n}: {rule}" for n in (3, 7))


def test_env_file_values_are_not_expanded(tmp_path: Path):
    """A dollar sign in an env file is a dollar sign."""
    env_file = Path(write_file(tmp_path / "env", "POLLER_STORE=/tmp/${HOME}/x\n"))

    assert load_with(env_file=env_file).settings.store == "/tmp/${HOME}/x"


def test_secret_file_takes_precedence_over_the_environment(tmp_path: Path):
    """X_FILE comes before X, and a newline at its end is not part of the secret."""
    path = write_file(tmp_path / "key", "sk_filed\r\n")

    config = load_with(SUTRO_API_KEY_FILE=path)

    assert key_of(config) == "sk_filed"
    assert origin_of(config, "SUTRO_API_KEY") == f"file {path}"


def test_env_file_may_name_a_secret_file(tmp_path: Path):
    """X_FILE in the env file still comes before X."""
    path = write_file(tmp_path / "key", "sk_filed")
    env_file = Path(write_file(tmp_path / "env", f"SUTRO_API_KEY_FILE={path}\n"))

    assert key_of(load_with(env_file=env_file)) == "sk_filed"


def test_systemd_credential_takes_precedence_over_the_environment(tmp_path: Path):
    """$CREDENTIALS_DIRECTORY/X comes before X."""
    write_file(tmp_path / "SUTRO_API_KEY", "sk_credential\n")

    config = load_with(CREDENTIALS_DIRECTORY=str(tmp_path))

    assert key_of(config) == "sk_credential"
    assert origin_of(config, "SUTRO_API_KEY") == "credential SUTRO_API_KEY"


def test_container_secret_takes_precedence_over_the_environment(tmp_path: Path):
    """/run/secrets/X comes before X."""
    path = write_file(tmp_path / "SUTRO_API_KEY", "sk_mounted")
    environ = {"SUTRO_API_KEY": KEY, "CREDENTIALS_DIRECTORY": "/nowhere"}

    found = EnvSources(environ=environ, run_secrets=tmp_path).find("SUTRO_API_KEY", is_secret=True)

    assert found
    assert (found.text, found.origin) == ("sk_mounted", f"file {path}")


def test_secrets_folder_without_permission_is_ignored():
    """A folder that this user may not enter has no secrets for it."""

    class Closed(type(Path())):
        def is_file(self, **_):
            raise PermissionError

    found = EnvSources(environ={"X": "y"}, run_secrets=Closed("/closed")).find("X", is_secret=True)

    assert found
    assert found.origin == "environment"


def test_secret_file_must_be_a_regular_file(tmp_path: Path):
    """A pipe is refused at once: it would hang, and could be read only once."""
    os.mkfifo(tmp_path / "key")

    (problem,) = load_errors(SUTRO_API_KEY="", SUTRO_API_KEY_FILE=str(tmp_path / "key"))

    assert problem.endswith("/key: it is not a regular file")


def test_only_secrets_can_be_read_from_files(tmp_path: Path):
    """X_FILE is unknown if X is not a secret."""
    path = write_file(tmp_path / "ids", "job-2")

    assert "POLLER_JOB_IDS_FILE" in load_errors(POLLER_JOB_IDS_FILE=path)[0]


@pytest.mark.parametrize(
    ("surroundings", "store"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/state.db"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/sutro-poller/state.db"),
        ({}, "/home/us/.local/state/sutro-poller/state.db"),
        ({"STATE_DIRECTORY": "/var/lib/a", "POLLER_STORE": "memory:"}, "memory:"),
    ],
)
def test_store_default_depends_on_the_environment(surroundings, store):
    """It is in systemd's state folder, else in the XDG state folder."""
    assert load_with(**surroundings).settings.store == store


def test_reload_reads_secret_files(tmp_path: Path):
    """A reload replaces the API key and the secrets of sinks."""
    key, url = tmp_path / "key", tmp_path / "url"
    files = {
        "SUTRO_API_KEY_FILE": write_file(key, "sk_old"),
        "POLLER_WEBHOOK_URL_FILE": write_file(url, URL),
    }
    config = load_with(**files)
    webhook = config.sinks[1].reloadable
    key.write_text("sk_new")
    url.write_text("https://new.example.com")

    problems = config.reload_secrets()

    assert problems == ()
    assert key_of(config) == "sk_new"
    assert webhook.value.url.get_secret_value() == "https://new.example.com"


def test_reload_with_an_error_changes_nothing(tmp_path: Path):
    """With one bad file all old values stay, and the error is returned."""
    key, url = tmp_path / "key", tmp_path / "url"
    config = load_with(
        SUTRO_API_KEY_FILE=write_file(key, "sk_old"), POLLER_WEBHOOK_URL_FILE=write_file(url, URL)
    )
    key.write_text("sk_new")
    url.write_text("")

    problems = config.reload_secrets()

    assert problems == (f"POLLER_WEBHOOK_URL_FILE: {url} is empty",)
    assert key_of(config) == "sk_old"


def test_reload_keeps_a_key_whose_file_is_gone(tmp_path: Path):
    """If a credential is gone at a reload, the key stays."""
    credential = tmp_path / "SUTRO_API_KEY"
    write_file(credential, "sk_old")
    config = load_with(SUTRO_API_KEY="", CREDENTIALS_DIRECTORY=str(tmp_path))
    credential.unlink()

    problems = config.reload_secrets()

    assert problems[0].startswith("SUTRO_API_KEY: is required")
    assert key_of(config) == "sk_old"


def test_reload_does_not_add_a_sink(tmp_path: Path):
    """A webhook URL that appears later requires a restart."""
    config = load_with(CREDENTIALS_DIRECTORY=str(tmp_path))
    write_file(tmp_path / "POLLER_WEBHOOK_URL", URL)

    problems = config.reload_secrets()

    assert problems == ("POLLER_SINKS: restart the daemon to add or remove a sink",)
    assert [sink.name for sink in config.sinks] == ["log"]


def test_second_instance_of_a_sink_has_its_own_prefix():
    """webhook.audit reads POLLER_WEBHOOK_AUDIT_*."""
    config = load_with(
        **WEBHOOK,
        POLLER_SINKS="webhook,webhook.audit",
        POLLER_WEBHOOK_AUDIT_URL="https://audit.example.com",
        POLLER_WEBHOOK_AUDIT_SECRET=SECRET,
        POLLER_WEBHOOK_AUDIT_EVENTS="*",
    )

    assert [sink.name for sink in config.sinks] == ["webhook", "webhook.audit"]
    assert config.sinks[1].reloadable.value.url.get_secret_value() == "https://audit.example.com"
