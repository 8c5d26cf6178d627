"""What a Plan holds besides its op list, and what its tags tell of it."""

import pytest

from fedplan.plan.variants.variants import Variants, errors_from_tags, missing_from_tags


@pytest.mark.parametrize(
    ("tags", "errors"),
    [
        ([], {}),
        (["#fedplan-error:tfjs:2.4e-07", "#fedplan-error:list:0"], {"tfjs": 2.4e-07, "list": 0.0}),
        (["#fedplan-error:torchscript:1.25", "other"], {"torchscript": 1.25}),
        (["#fedplan-error:tfjs:1", "#fedplan-error:tfjs:2"], {"tfjs": 2.0}),
        (["#fedplan-error:tfjs:nan", "#fedplan-error:tfjs:inf", "#fedplan-error:tfjs:1e999"], {}),
        (["#fedplan-error:tfjs:-1", "#fedplan-error:tfjs:", "#fedplan-error:tfjs", "#fedplan-error"], {}),
        (["#fedplan-error:tfjs:1 ", " #fedplan-error:tfjs:1", "#FEDPLAN-ERROR:tfjs:1"], {}),
        (["#fedplan-error:tfjs:١", "#fedplan-error:tfjs:" + "9" * 5000], {}),
    ],
)
def test_tags_tell_how_exact_variants_are(tags: list[str], errors: dict[str, float]) -> None:
    assert errors_from_tags(tags) == errors


def test_tags_tell_why_a_variant_is_missing() -> None:
    why = "'aten.bitwise_and' (train.py:3) cannot be said in tfjs:\nit has none"
    assert missing_from_tags(Variants(missing={"tfjs": why}).tags) == {"tfjs": why}
    assert missing_from_tags(["#fedplan-missing:tfjs:", "#fedplan-missing:TFJS:x", "tfjs:x"]) == {}
    (told,) = missing_from_tags(Variants(missing={"tfjs": "x" * 5000}).tags).values()
    assert told == "x" * 1000
