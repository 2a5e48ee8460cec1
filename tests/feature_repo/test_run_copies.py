"""Runs keep copies of the data for a while, and a forgotten user is in none of them."""

from feature_repo.run_copies import note_run, runs_of


def make_run(folder, name):
    run = folder / name
    (run / "artifacts" / "ingest").mkdir(parents=True)
    (run / "evaluation").mkdir()
    (run / "evaluation" / "per_user.parquet").touch()
    (run / "report.html").touch()
    return run


def test_the_newest_runs_keep_their_copies_and_older_ones_their_report(tmp_path):
    runs = [make_run(tmp_path / place, name) for name, place in zip("abcd", "wxyz", strict=True)]
    dropped = [note_run(tmp_path, run, keep=2) for run in runs]
    assert dropped == [[], [], [], [runs[0]]]
    assert runs_of(tmp_path) == runs[1:]
    assert sorted(path.name for path in runs[0].rglob("*")) == ["evaluation", "report.html"]
    assert (runs[1] / "artifacts" / "ingest").exists()


def test_a_repeated_run_counts_once_and_a_removed_one_does_not(tmp_path):
    first, second, third = (make_run(tmp_path, name) for name in "abc")
    for run in (first, second, second):
        assert note_run(tmp_path, run, keep=1) == []
    (first / "artifacts" / "ingest").rmdir()
    for path in sorted(first.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    first.rmdir()
    assert note_run(tmp_path, third, keep=1) == []
    assert runs_of(tmp_path) == [second, third]
