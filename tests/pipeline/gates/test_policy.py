"""What becomes of flagged texts, on the engine without a model, which loops where it is told to."""

from __future__ import annotations

import pytest

from pipeline.config import ModelConfig, load_config
from pipeline.config.gates import GatesConfig
from pipeline.engines.base import Failure, Request, Result
from pipeline.engines.echo import EchoEngine
from pipeline.errors import UsageError
from pipeline.gates import Case
from pipeline.gates.policy import gates_of, judge, resampled
from pipeline.run import generate_table
from schemas import open_table
from schemas.layout import current_version
from schemas.marker import read_marker
from tests.builders import ECHO_CONFIG, list_markers, write_samples

COUNT = 60


def echo(loop_share=0.0, failure_share=0.0):
    options = {"loop_share": loop_share, "failure_share": failure_share}
    return EchoEngine(ModelConfig(kind="chat", engine="echo", echo=options))


def requests(count=COUNT):
    return [Request(f"key-{n}", f"Say something about picture {n}") for n in range(count)]


def judged(gates, engine, asked=None, check=lambda: None):
    asked = asked or requests()
    results = {result.key: result for result in engine.generate(asked)}
    config = GatesConfig(**gates)

    def case(request: Request, result: Result) -> Case:
        return Case(result.text, request.prompt, result.finish_reason)

    return results, judge(config, gates_of(config), case, asked, results, engine, check)


def test_flagged_texts_are_kept_when_nothing_else_is_said():
    first, after = judged({}, echo(loop_share=0.5))
    assert dict(after.results) == first and not after.set_aside and after.attempts == 0
    loops = sum("repetition" in flags for flags in after.flags.values())
    assert 15 < loops < 45
    assert after.counts["repetition"] == {
        "raised": loops,
        "regenerated": 0,
        "cured": 0,
        "quarantined": 0,
        "kept": loops,
    }


def test_flagged_texts_are_generated_again_until_they_are_cured_or_the_attempts_are_spent():
    gates = {"policy": {"repetition": "regenerate"}, "attempts": 2}
    first, after = judged(gates, echo(loop_share=0.5))
    raised = {key for key, result in first.items() if "repetition" in flags_of_text(result)}
    counts = after.counts["repetition"]
    assert counts["raised"] == counts["regenerated"] == len(raised)
    assert counts["cured"] + counts["kept"] == len(raised) and counts["cured"] > counts["kept"] > 0
    # The second attempt is only for those that the first has not cured.
    assert len(raised) < after.attempts < 2 * len(raised)
    for key, result in after.results.items():
        if key not in raised or "repetition" in after.flags[key]:
            assert result == first[key]  # where no attempt is better, the first text stays
        else:
            assert result != first[key]


def flags_of_text(result):
    (flags,) = gates_of(GatesConfig())([Case(result.text, "", result.finish_reason)])
    return flags


def test_texts_that_no_attempt_cures_take_the_second_policy():
    gates = {"policy": {"repetition": "regenerate"}, "attempts": 1, "after_attempts": "quarantine"}
    _, after = judged(gates, echo(loop_share=1.0))
    assert after.set_aside == {f"key-{n}" for n in range(COUNT)} and after.attempts == COUNT
    counts = after.counts["repetition"]
    assert (counts["quarantined"], counts["cured"], counts["kept"]) == (COUNT, 0, 0)


def test_quarantine_sets_aside_without_another_attempt():
    first, after = judged({"policy": {"repetition": "quarantine"}}, echo(loop_share=0.5))
    assert after.attempts == 0
    assert after.set_aside == {key for key, flags in after.flags.items() if "repetition" in flags}
    assert 0 < len(after.set_aside) < COUNT and after.results.keys() == first.keys()


def test_a_text_with_flags_of_both_policies_is_tried_again_before_it_is_set_aside():
    gates = {"policy": {"repetition": "regenerate", "truncated": "quarantine"}, "attempts": 3}
    engine = echo(loop_share=0.6)
    engine.limit = 12  # cuts the loops of the echo engine, which have 16 words, and some other answers
    first, after = judged(gates, engine)
    both = {key for key, result in first.items() if flags_of_text(result) == ["truncated", "repetition"]}
    assert both - after.set_aside
    assert all("truncated" in after.flags[key] for key in after.set_aside)


def test_an_attempt_that_must_be_set_aside_does_not_replace_a_text_that_may_stay():
    class Refuses(EchoEngine):
        def _answer(self, request):
            text, reason = ("I cannot", "stop") if request.attempt else ("no no no no no", "length")
            return Result(request.key, text, reason, 1, 5)

    policy = {"repetition": "regenerate", "refusal": "quarantine"}
    engine = Refuses(ModelConfig(kind="chat", engine="echo"))
    first, after = judged({"policy": policy, "attempts": 1}, engine, requests(1))
    assert after.attempts == 1 and dict(after.results) == first and not after.set_aside
    assert after.flags == {"key-0": ["truncated", "repetition"]}


def test_an_attempts_text_depends_on_seed_key_and_attempt_alone():
    gates = {"policy": {"repetition": "regenerate"}, "attempts": 3}
    engine = echo(loop_share=0.5)
    _, together = judged(gates, engine)
    apart = {}
    for request in reversed(requests()):
        apart |= judged(gates, engine, [request])[1].results
    assert dict(together.results) == apart


def test_attempts_get_hotter_and_keep_their_key_and_seed():
    gates = GatesConfig(policy={"empty": "regenerate"}, again={"temperature": 0.5, "temperature_step": 0.25})
    asked = Request("a", "b", seed=7)
    third = resampled(resampled(asked, gates, 1), gates, 3)
    assert (third.key, third.seed, third.attempt) == ("a", 7, 3)
    assert third.sampling.temperature == pytest.approx(1.0)


def test_rows_that_failed_are_left_alone_and_one_that_fails_again_keeps_its_first_text():
    class FailsAgain(EchoEngine):
        def _answer(self, request):
            if request.attempt:
                return Result.failed(request.key, Failure("out_of_memory", False, "no room"))
            return super()._answer(request)

    options = {"loop_share": 0.5, "failure_share": 0.2}
    engine = FailsAgain(ModelConfig(kind="chat", engine="echo", echo=options))
    first, after = judged({"policy": {"repetition": "regenerate"}}, engine)
    assert dict(after.results) == first
    assert after.flags.keys() == {key for key, result in first.items() if result.failure is None}
    assert after.counts["repetition"]["cured"] == 0 and after.attempts > 0


def test_a_stop_between_two_new_attempts_is_heard():
    class Stop(Exception):
        pass

    seen = []

    def check():
        seen.append(1)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        judged({"policy": {"repetition": "regenerate"}}, echo(loop_share=1.0), check=check)


GATES = (
    "gates: {policy: {repetition: regenerate, truncated: quarantine}, attempts: 1, "
    "after_attempts: quarantine}"
)


def config_with(folder, shard_size, name="gated.yaml", latency=0.0):
    text = ECHO_CONFIG.replace(
        "captions: {model: captioner, shard_size: 10}",
        f"captions: {{model: captioner, shard_size: {shard_size}, {GATES}}}",
    ).replace("engine: echo}", f"engine: echo, echo: {{loop_share: 0.4, latency_s: {latency}}}}}")
    path = folder / name
    path.write_text(text)
    return load_config(path)


def test_a_table_holds_no_quarantined_row_and_every_row_is_accounted_for(tmp_path):
    write_samples(tmp_path, COUNT)
    summary = generate_table("captions", config_with(tmp_path, 7), tmp_path)
    table = open_table(tmp_path, "captions").to_arrow().to_pylist()
    aside = open_table(tmp_path, "captions", part="quarantined").to_arrow().to_pylist()
    assert (summary.written, summary.quarantined) == (len(table), len(aside)) and len(aside) > 2
    assert len(table) + len(aside) == COUNT
    assert not any("repetition" in row["flags"] for row in table)
    assert all("repetition" in row["flags"] for row in aside)
    markers = [read_marker(path) for path in list_markers(current_version(tmp_path, "captions"))]
    counts = [marker.stats.get("gates", {}).get("repetition", {}) for marker in markers]
    assert sum(count.get("quarantined", 0) for count in counts) == len(aside)
    assert sum(count.get("cured", 0) for count in counts) > 2


def test_rows_do_not_depend_on_how_the_work_is_cut(tmp_path):
    rows = {}
    for size in (7, 60):
        out = tmp_path / str(size)
        write_samples(out, COUNT)
        generate_table("captions", config_with(tmp_path, size), out)
        rows[size] = sorted(map(str, open_table(out, "captions").to_arrow().to_pylist()), key=lambda row: row)
    assert rows[7] == rows[60]


def test_another_policy_is_another_version_and_is_named(tmp_path):
    write_samples(tmp_path, COUNT)
    config = config_with(tmp_path, 7)
    generate_table("captions", config, tmp_path)
    gates = config.captions.gates.model_copy(update={"attempts": 4})
    captions = config.captions.model_copy(update={"gates": gates})
    other = config.model_copy(update={"captions": captions})
    with pytest.raises(UsageError, match=r"gates\.attempts"):
        generate_table("captions", other, tmp_path)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("captions.gates.policy.repetitions=keep", "did you mean 'repetition'"),
        ("captions.gates.policy.empty=drop", "'keep', 'regenerate' or 'quarantine'"),
        ("captions.gates.policy.image_mismatch=quarantine", "needs the section clip"),
        ("explanations.gates.clip={model: ViT-B-32}", "only captions are about a picture"),
        ("captions.gates={policy: {empty: regenerate}, attempts: 9}", "temperature 2.3, more than 2"),
        ("captions.gates.clip={modle: ViT-B-32}", "did you mean 'model'"),
    ],
)
def test_gates_that_cannot_work_are_refused_with_the_remedy(tmp_path, override, says):
    path = tmp_path / "echo.yaml"
    path.write_text(ECHO_CONFIG)
    with pytest.raises(UsageError, match=says):
        load_config(path, [override])


def test_regenerating_is_refused_beside_beam_search(tmp_path):
    path = tmp_path / "echo.yaml"
    path.write_text(ECHO_CONFIG)
    beams = ["models.chat.generation.num_beams=4", "explanations.gates.policy.empty=regenerate"]
    with pytest.raises(UsageError, match="num_beams: 4; set num_beams: 1"):
        load_config(path, beams)


def test_rows_with_one_prompt_are_judged_each_and_share_a_text_only_when_nothing_is_sampled(tmp_path):
    import pyarrow as pa

    from pipeline.shards.snapshot import write_snapshot
    from schemas.tables import SAMPLES
    from tests.builders import sample_row

    path = tmp_path / "echo.yaml"
    path.write_text(ECHO_CONFIG)
    text = "Ann smiles in Lima"
    same = {"fake_cls": "orig", "text": text, "words": text.split(), "fake_text_pos": []}
    rows = [sample_row(n, f"k{n}", f"{n}.png", **same, original_text=None) for n in range(20)]
    loops = ["models.chat.echo.loop_share=1.0"]
    again = "explanations.gates={policy: {repetition: regenerate}, attempts: 1}"
    summaries = {}
    for name, overrides in (("kept", loops), ("again", [*loops, again])):
        table = pa.Table.from_pylist(rows, schema=SAMPLES)
        write_snapshot(tmp_path / name, "samples", [table], info={"image_root": ""})
        summaries[name] = generate_table("explanations", load_config(path, overrides), tmp_path / name)
    assert (summaries["kept"].shared, summaries["again"].shared) == (18, 0)
    for summary in summaries.values():
        assert summary.flags == {"repetition": 20} and summary.gates["repetition"]["raised"] == 20
    assert summaries["again"].gates["repetition"]["regenerated"] == 20


def test_a_retry_is_judged_by_the_same_policy_and_leaves_a_bill(tmp_path):
    from pipeline.costs.sums import read_bills
    from pipeline.retrying import retry_failed
    from pipeline.shards.status import table_status

    write_samples(tmp_path, COUNT)
    path = tmp_path / "echo.yaml"
    path.write_text(ECHO_CONFIG)
    policy = ["models.captioner.echo.loop_share=0.5", "captions.gates.policy.repetition=quarantine"]
    outage = "models.captioner.echo.outage_share=0.5"
    first = generate_table("captions", load_config(path, [*policy, outage]), tmp_path)
    assert first.failed > 10 and first.quarantined > 2
    retried = retry_failed("captions", load_config(path, policy), tmp_path)
    assert retried.retried == first.failed == retried.recovered + retried.quarantined
    status = table_status(tmp_path, "captions")
    aside = first.quarantined + retried.quarantined
    assert status.gates["repetition"]["quarantined"] == status.quarantined == aside
    bills = read_bills(current_version(tmp_path, "captions"))
    assert [bill["keys"] for bill in bills] == [COUNT, first.failed] and retried.bill == bills[1]
