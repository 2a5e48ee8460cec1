import hashlib
import io
import zipfile

import httpx
import pytest

from sasrec.data import download as module
from sasrec.data.download import Archive, download
from sasrec.errors import DataError


def zipped(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"tiny/{name}.data", content)
    return buffer.getvalue()


CONTENT = zipped(u="1\t2\t3\t4\n")
TINY = Archive(
    "tiny", "https://example.org/tiny.zip", hashlib.sha256(CONTENT).hexdigest(), ("tiny/u.data",)
)


@pytest.fixture
def answer(monkeypatch):
    """Let the network answer every request with these bytes, or raise this error."""

    def set_answer(content: bytes | Exception) -> list[str]:
        requests = []

        def handle(request: httpx.Request) -> httpx.Response:
            requests.append(str(request.url))
            if isinstance(content, Exception):
                raise content
            return httpx.Response(200, content=content)

        client = httpx.Client(transport=httpx.MockTransport(handle))
        monkeypatch.setattr(module.httpx, "stream", client.stream)
        return requests

    return set_answer


def test_fetched_once_and_kept(tmp_path, answer):
    requests = answer(CONTENT)
    for _ in range(2):
        folder = download(TINY, cache=tmp_path)
        assert [path.name for path in folder.iterdir()] == ["u.data"]
        assert (folder / "u.data").read_text() == "1\t2\t3\t4\n"
    assert requests == [TINY.url]


def test_another_file_is_refused_and_leaves_nothing(tmp_path, answer):
    answer(zipped(u="tampered"))
    with pytest.raises(DataError, match="nothing was kept"):
        download(TINY, cache=tmp_path)
    assert list((tmp_path / "tiny").iterdir()) == []


def test_no_network_names_the_way_out(tmp_path, answer):
    answer(httpx.ConnectError("Name or service not known"))
    with pytest.raises(DataError, match=r"tiny: cannot download .*--data-dir") as error:
        download(TINY, cache=tmp_path)
    assert "\n" not in str(error.value)
