"""What the options of a command line become."""

from small_site import EASY_GATES

from components.command_line.options import SplitKind, configuration


def test_a_linked_file_keeps_its_name(tmp_path, monkeypatch):
    """Caches of data sets link a name to a file that its digest names."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "3f9ab21c77").write_text("user_id,item_id\nu,i\n")
    (tmp_path / "events.csv").symlink_to(tmp_path / "blobs" / "3f9ab21c77")
    monkeypatch.chdir(tmp_path)
    gates = tmp_path / "gates.yaml"
    gates.write_text(EASY_GATES)
    run = configuration("events.csv", None, None, SplitKind.GLOBAL_TIME, "default", None, gates)
    assert run.data.dataset == str(tmp_path / "events.csv")
    assert run.site == "events"
