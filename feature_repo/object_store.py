"""Objects written only if nobody wrote them meanwhile, in S3 or what speaks its protocol."""

import fsspec

_LOST_THE_RACE = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})


def put_if(
    filesystem: fsspec.AbstractFileSystem, path: str, content: bytes, *, etag: str | None
) -> bool:
    """Write an object by conditional PUT (RFC 9110, section 13.1); False if another was faster.

    Args:
        etag: of the object that is replaced; None where there must be none yet.

    Raises:
        OSError: it cannot be written.
    """
    condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
    try:
        filesystem.pipe_file(path, content, **condition)
    except OSError as error:
        if _code(error) in _LOST_THE_RACE:
            return False
        raise
    return True


def _code(error: OSError) -> str:
    """What S3 called the error. s3fs turns a failed `IfNoneMatch` into FileExistsError."""
    if isinstance(error, FileExistsError):
        return "PreconditionFailed"
    response = getattr(error.__cause__, "response", {})
    return response.get("Error", {}).get("Code", "")
