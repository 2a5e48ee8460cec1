import kernels
import sasrec
from components.support.fingerprint import code_version


def test_the_version_of_the_code_follows_model_and_kernels(tmp_path, monkeypatch):
    before = code_version()
    for package, name in ((kernels, "kernels"), (sasrec, "sasrec")):
        copy = tmp_path / name
        copy.mkdir()
        (copy / "__init__.py").write_text("")
        with monkeypatch.context() as patched:
            patched.setattr(package, "__file__", str(copy / "__init__.py"))
            assert code_version() != before
    assert code_version() == before
