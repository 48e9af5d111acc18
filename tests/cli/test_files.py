"""`sutro-poller files` in a clone, which has no files made for a wheel."""

from tests.cli.conftest import RunCli


def test_files_of_a_clone(run_cli: RunCli):
    """A clone has no man page: an error says that only a wheel has it."""
    listed, missing = run_cli("files"), run_cli("files", "sutro-poller.1")

    assert "sutro-poller.service" in listed.out.split()
    assert "sutro-poller.1" not in listed.out.split()
    assert missing.code == 2
    assert missing.err == "sutro-poller: sutro-poller.1: only an installed wheel has this file\n"
