"""A report that cannot be drawn takes no verdict down."""

from types import SimpleNamespace

from components.support.report_page import write_report
from sasrec.gates.verdict import Verdict


def test_a_report_that_cannot_be_drawn_says_the_verdict(tmp_path, capsys):
    (tmp_path / "train.jsonl").write_text("{}\n")
    (tmp_path / "data.json").write_text("{}")
    verdict = Verdict("hold", "a <b> reason", "", [])
    page = write_report(SimpleNamespace(site="shop"), tmp_path, None, verdict)
    assert page == (tmp_path / "report.html").read_text()
    assert "shop: hold" in page
    assert "a &lt;b&gt; reason" in page
    assert "Traceback" in capsys.readouterr().err
