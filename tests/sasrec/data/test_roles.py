import pytest

from sasrec.data.roles import Roles, looks_like_dislike
from sasrec.errors import DataError


def test_numbers_are_weights_and_two_words_are_roles():
    roles = Roles.parse({"purchase": 3, "view": "0.5", "dislike": "negative", "shown": "ignore"})
    assert [roles.weight(t) for t in ("purchase", "view", "dislike", "shown", "other")] == [
        *(3.0, 0.5, 0.0, 0.0),
        1.0,
    ]
    assert [roles.role(t) for t in ("view", "dislike", "shown", "other")] == [
        *("positive", "negative", "ignore"),
        "positive",
    ]
    assert roles.is_mapped("shown")
    assert not roles.is_mapped("other")


@pytest.mark.parametrize("role", ["bad", 0, -1, "nan", "inf", True, None])
def test_an_unknown_role_is_one_line_that_names_the_type(role):
    with pytest.raises(DataError, match=f"role '{role}' of event type 'view' is unknown") as caught:
        Roles.parse({"view": role})
    assert "\n" not in str(caught.value)


def test_names_that_usually_mean_dislike():
    assert looks_like_dislike("Thumbs-Down")
    assert not looks_like_dislike("like")
