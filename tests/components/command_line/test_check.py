"""`check` says what a run would make of some data, and what to run."""

from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from components.command_line import command_line
from sasrec.errors import DataError


def said(*arguments):
    done = CliRunner().invoke(command_line(None), ["check", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def lines(users, events, start, step=3600, again=1):
    return [
        f"c{u},{'buy' if n % 2 else 'view'},i{(u * 3 + n // again) % 30},{start + u + n * step}"
        for n in range(events)
        for u in range(users)
    ]


def written(path, rows, header="customer,event_type,item_id,timestamp"):
    path.write_text("\n".join([header, *rows]))
    return path


def test_a_shop_is_told_from_rows_to_the_command(tmp_path):
    shop = written(tmp_path / "my shop.csv", lines(50, 24, 1_700_000_000))
    told = said(shop, "--column", "user_id=customer")
    assert "| events | 1,200 of 1,200 rows |" in told
    assert "| event type buy | 600, positive with weight 1 |" in told
    assert "2023-11-14T22:13:20+00:00 to 2023-11-15T21:14:09+00:00 (real clock)" in told
    assert "'timestamp' read as seconds since 1970" in told
    assert "0.0% of the targets are items that their user had before" in told
    assert "Split global-time (times are known)" in told
    assert told.strip().endswith(f"run --dataset '{shop}' --column user_id=customer")
    assert "preset auto: default with model.dropout=0.3\n" in told
    assert list(tmp_path.iterdir()) == [shop]


def test_what_stands_out_is_named(tmp_path):
    """Short histories, the same again and again, and local times of Tokyo."""
    start = int((datetime.now(UTC) + timedelta(hours=9)).timestamp()) - 9 * 3600
    header = "user_id,event_type,item_id,timestamp"
    again = written(tmp_path / "shop.csv", lines(50, 10, start, again=100), header)
    told = said(again)
    assert "100.0% of the targets are items that their user had before" in told
    assert "events lie in the future, the last by 9.0 hours" in told
    assert "preset auto: sparse\nhalf of 50 users have at most 8 events to learn from" in told


def test_one_moment_for_all_is_split_by_user(tmp_path):
    header = "user_id,event_type,item_id,timestamp"
    moment = written(tmp_path / "shop.csv", lines(5, 10, 1_700_000_000, step=0), header)
    moment.write_text(moment.read_text().replace("1700000001", "1700000000"))
    assert "--split leave-one-out" in said(moment)


def test_bad_data_is_one_line(tmp_path):
    shop = written(tmp_path / "shop.csv", lines(5, 10, 1_700_000_000))
    with pytest.raises(DataError, match="no column for 'user_id'"):
        said(shop)
