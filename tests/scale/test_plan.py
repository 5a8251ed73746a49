from pathlib import Path

from unmask.results.ledger import Ledger
from unmask.scale.plan import Checkpoint, codes, missing, planned, variant_of
from unmask.scale.settings import SMALL_FINETUNING


def test_the_plan_has_three_variants_and_loses_what_is_done(tmp_path):
    pair = [Checkpoint(kind, "0123abcd", 0, Path()) for kind in ("encoder", "decoder")]
    plan = list(planned(pair, 4, "lookright", (120, 121), SMALL_FINETUNING, "f"))
    assert [run.config for _, run in plan] == ["encoder"] * 2 + ["0000"] * 2 + ["1111"] * 2
    assert {variant_of(run) for _, run in plan} == {
        "encoder",
        "decoder with mask",
        "decoder without mask",
    }
    assert len({run.id for _, run in plan}) == 6
    assert missing(Ledger(tmp_path / "none.jsonl"), plan) == plan
    assert codes("decoder", 2) == ("00", "11")
