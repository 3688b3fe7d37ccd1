"""The report tells what came of a run, to whoever may see it, and lets nothing of strangers run."""

from __future__ import annotations

import gc
import re
from dataclasses import replace
from typing import Any

import pytest

from retraining.epochs import epochs
from retraining.page.airflow_runs import TaskRecord
from retraining.page.app import report_page
from retraining.page.figures import percent
from retraining.page.headline import headline
from retraining.page.mount import VIEWS
from retraining.page.panels import PANELS, section_of
from retraining.page.weeks import told
from tests.page.runs import BEGAN, documents

DIGITS = [str(digit) for digit in range(10)]


def shown(*args: Any, **kwargs: Any) -> str:
    return bytes(report_page(documents(*args, **kwargs)).body).decode()


def test_the_verdict_comes_first() -> None:
    word, text = headline(documents(DIGITS).report)
    assert (word, text) == ("Promoted.", "Right on 3 images more of 300 than the champion.")
    page = shown(DIGITS)
    assert page.index("<h1>") < page.index("min_improvement") < page.index('id="cost"')


def test_a_worse_candidate_says_which_rules_failed() -> None:
    word, text = headline(documents(DIGITS, wrong=2).report)
    assert word == "The champion stays."
    assert "min_improvement" in text


def test_splits_come_in_their_own_order() -> None:
    counts = {split: dict.fromkeys(DIGITS, 9) for split in ("test", "train", "validation")}
    page = shown(DIGITS, dataset={"fingerprint": "f" * 16, "counts": counts, "quarantined": 0})
    data = page[page.index('id="data"') :]
    assert data.index(">train<") < data.index(">validation<") < data.index(">test<")


CONDITION = "RuleEvaluationConditionMet: Evaluation of the rule Mine at step 24 resulted in the condition being met"


def test_what_a_rule_found_comes_without_sagemakers_sentence() -> None:
    def told(details: str) -> str:
        return shown(DIGITS, rules=[{"rule": "Mine", "status": "IssuesFound", "details": details, "policy": "warn"}])

    assert "At step 24, the loss rose.</span>" in told(f"{CONDITION}\nthe loss rose")
    assert f"{CONDITION}.</span>" in told(CONDITION)  # SageMaker's own rules say no more
    page = shown(DIGITS, failed="debugger_verdict", failures={"debugger_verdict": f"Mine: {CONDITION}\nit rose"})
    assert "Mine: at step 24, it rose" in page


def test_what_was_kept_out_is_told_with_pictures() -> None:
    page = shown(DIGITS)
    cards = page[page.index("Kept out") : page.index("</section>", page.index("Kept out"))]
    assert cards.index("Nearly the same picture in several classes") < cards.index("TRUNCATED")
    assert re.findall(r'src="(.{23})', cards) == ["data:image/jpeg;base64,"] * 3 and "alert(5)" not in cards
    assert cards.count("no picture") == 2 and "50 more, named in dataset.json" in cards
    assert "&lt;img src=x onerror=alert(2)&gt;.png" in cards and "<img src=x" not in cards


def test_a_version_of_before_tells_what_was_kept_out_without_pictures() -> None:
    listed = [{"name": f"{n}.png", "class": "a", "code": "TRUNCATED", "detail": "cut"} for n in range(60)]
    page = bytes(report_page(replace(documents(DIGITS), kept_out=None, dataset={"quarantined": listed})).body).decode()
    assert page.count("no picture") == 48 and "12 more, named" in page


def test_a_failure_is_explained_before_anything_else() -> None:
    page = shown(DIGITS, failed="train", comparison=None)
    assert page.index("exit code 1") < page.index("<h2>")


def test_a_panel_whose_task_has_not_run_says_what_will_be_here() -> None:
    page = shown(DIGITS, state="running", tuning=None, endpoint=None)
    promises = {panel.key: panel.promise for panel in PANELS}
    assert promises["tuning"] in page and promises["deployment"] in page and promises["data"] not in page
    assert "data-live" in page


def test_a_run_that_asks_a_person_says_where_to_answer() -> None:
    def page(state: str) -> str:
        run = documents(DIGITS, state="running")
        tasks = (*run.record.tasks, TaskRecord(task_id="approve", state=state, start=BEGAN, end=None))
        return bytes(report_page(replace(run, record=replace(run.record, tasks=tasks))).body).decode()

    told = page("awaiting_input")
    assert told.index("under <b>Required Actions</b>") < told.index("min_improvement")
    assert "Required Actions" not in page("running")


def test_a_run_that_left_nothing_still_has_its_page() -> None:
    empty = dict.fromkeys(
        ("dataset", "tuning", "training", "comparison", "endpoint", "smoke_test", "ceiling", "billed")
    )
    page = shown(DIGITS, need={"needed": False, "reason": "unchanged"}, rules=(), trials=(), **empty)
    assert "Nothing new." in page and "Unchanged." in page


def test_a_panel_that_cannot_read_its_document_leaves_the_others() -> None:
    page = shown(DIGITS, dataset={"fingerprint": "f", "counts": None})
    promises = {panel.key: panel.promise for panel in PANELS}
    assert promises["data"] in page and promises["tuning"] not in page


def test_hostile_names_are_text() -> None:
    hostile = ["<script>alert(1)</script>", '"><img src=x onerror=alert(3)>', "{{ 7 * 7 }}"]
    page = shown(hostile, failed="train")
    ours = re.compile(r'<img src="(data:image/jpeg;base64,[A-Za-z0-9+/=]+|strip\?[\w%&;=-]+)" ')
    assert re.findall(r"<script[^>]*>|<img", ours.sub("", page)) == ['<script src="static/page.js">']
    assert "&lt;script&gt;alert(1)" in page and "{{ 7 * 7 }}" in page


def test_images_come_before_classes() -> None:
    page = shown(DIGITS)
    assert (
        page.index("Now right") < page.index("Now wrong") < page.index("Wrong as before") < page.index('id="classes"')
    )
    # 8 won, 5 lost, 2 wrong as before.
    assert page[: page.index('id="classes"')].count('src="data:image/jpeg;base64,') == 15


def test_a_picture_that_is_none_is_not_shown() -> None:
    run = documents(DIGITS)
    assert run.album
    for card in run.album["won"]["images"]:
        card["picture"] = 'data:text/html,<script>" onload="alert(1)'
    page = bytes(report_page(run).body).decode()
    assert page.count("not shown") == 8 and "text/html" not in page


def test_doubted_labels_are_shown_with_their_way_out() -> None:
    page = shown(DIGITS)
    panel = page[page.index('id="labels"') :]
    assert (
        "Of 1,524 images 5 look like another class" in panel
        and "2 more" in panel
        and "&lt;b&gt;rare&lt;/b&gt;" in panel
    )
    assert "four/a.png" in panel and "&lt;script&gt;alert(3)" in panel
    assert "retraining.dataset labels digits --relabel" in panel and "s3://bucket/digits/data/labels.csv" in panel


def test_a_run_that_doubts_nothing_says_so() -> None:
    run = replace(documents(DIGITS), labels={"count": 0, "judged": 1_524, "suspects": []})
    assert "No label of 1,524 images is doubted" in bytes(report_page(run).body).decode()


def test_classes_that_lost_come_first() -> None:
    classes = next(panel for panel in PANELS if panel.key == "classes")
    rows = (classes.view(documents(DIGITS, wrong=7)) or {})["rows"]
    assert [row["change"] for row in rows] == sorted(row["change"] for row in rows)
    assert all(row["low"] <= row["recall"] <= row["high"] for row in rows)


def test_a_page_of_133_classes_stays_small() -> None:
    page = shown([f"{number:03}.Some_breed_of_dog" for number in range(133)])
    assert len(re.sub('src="data:[^"]*"', "", page)) < 250_000  # with as many pictures as there may be: test_numbers


def test_a_refused_shadow_is_shown_without_an_endpoint() -> None:
    said = "Of 20 images that clients sent the candidate answers 9 as the champion does"
    page = shown(DIGITS, failed="shadow", endpoint=None, smoke_test=None, shadow={"accepted": False, "said": said})
    assert page.index("where it was refused") < page.index(said)
    assert "was asked to serve" not in page


def test_a_canary_is_shown_also_where_it_was_taken_back() -> None:
    answered = {"image/png": 10, "application/json": 9}
    canary = {"requests": 40, "answered": answered, "unanswered": {}, "others_failed": 0, "wrong": None}
    assert "rightly: 10 as image/png, 9 as application/json (40 requests sent)" in shown(DIGITS, canary=canary)
    wrong = canary | {"wrong": "The endpoint answers 3 for 0/x.png"}
    page = shown(DIGITS, failed="deploy", endpoint=None, smoke_test=None, canary=wrong)
    assert "deploy did not bring the endpoint to this run" in page
    assert "(40 requests sent). The endpoint answers 3" in page


def test_a_release_taken_back_begins_with_what_serves() -> None:
    page = shown(DIGITS, failed="smoke_test", serves={"name": "shop", "config": "the-one-before"})
    said = "The endpoint shop serves the-one-before, not this run"
    assert page.index('class="failure"') < page.index(said) < page.index("<dl")


def test_airflow_accepts_what_it_is_told_of_the_tabs() -> None:
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse

    views = [ExternalViewResponse.model_validate(view) for view in VIEWS]
    assert {view.destination for view in views} == {"dag", "dag_run", "nav", "task_instance"}
    assert not any(view.href.startswith("/") for view in views)
    assert not any(" " in view.name for view in views)  # where Airflow would break a tab into two lines
    assert len({view.url_route for view in views}) == len(views)


def test_panels_come_in_the_order_in_which_people_ask() -> None:
    asked = "gate images classes confusions data tuning training rules profiler certainty deployment cost reproduce"
    assert [panel.key for panel in PANELS if panel.key in asked.split()] == asked.split()


def test_the_tab_of_a_task_opens_at_its_panel() -> None:
    assert [section_of(task) for task in ("compare", "tune", "deploy", "unknown")] == [
        "gate", "tuning", "deployment", "",
    ]  # fmt: skip


RUN = {"dag_id": "retrain_digits", "run_id": "manual__1"}


@pytest.mark.parametrize("path", ["run", "weeks", "models", "static/page.css", "static/icon.svg", "static/nothing"])
def test_nobody_looks_without_having_signed_in(airflow: Any, path: str) -> None:
    assert airflow.get(f"/retraining/{path}", params=RUN).status_code == 401


def test_a_viewer_sees_only_what_is_there(airflow: Any, viewer: dict[str, str]) -> None:
    def ask(**params: str) -> tuple[int, str]:
        answer = airflow.get("/retraining/run", params=params, headers=viewer)
        assert "script-src 'self'" in answer.headers.get("content-security-policy", "") or answer.status_code == 422
        return answer.status_code, answer.text

    assert ask(dag_id="somebody_elses", run_id="manual__1")[0] == 200
    assert "none that retrains" in ask(dag_id="somebody_elses", run_id="manual__1")[1]
    assert ask(dag_id="retrain_digits", run_id="../../x")[0] == 404
    assert ask(dag_id="~", run_id="manual__1")[0] == 404
    assert ask(dag_id="", run_id="manual__1")[0] == 422
    assert "none that retrains" in airflow.get("/retraining/weeks?dag_id=somebody_elses", headers=viewer).text


def test_static_files_are_those_that_ship(airflow: Any, viewer: dict[str, str]) -> None:
    def status(name: str) -> int:
        return int(airflow.get(f"/retraining/static/{name}", headers=viewer).status_code)

    assert [status(name) for name in ("page.css", "page.js", "icon.svg")] == [200, 200, 200]
    assert [status(name) for name in ("..%2Fapp.py", "%2e%2e/app.py", "other.css")] == [404, 404, 404]


def test_a_deployment_that_is_not_set_up_is_told_so(
    airflow: Any, viewer: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RETRAINING_ROLE_ARN", raising=False)
    answer = airflow.get("/retraining/run", params=RUN, headers=viewer)
    assert (answer.status_code, "RETRAINING_ROLE_ARN is not set" in answer.text) == (503, True)


def test_other_classes_are_not_set_side_by_side() -> None:
    """The champion was judged on the images of the classes that both know."""
    run = documents(DIGITS)
    report = dict(run.report) | {"champion": dict(run.report["champion"]) | {"n": 200}}
    assert told(report)["was"] is None
    assert told(run.report)["was"] is not None


def test_the_curves_of_a_training_are_drawn_and_told_in_numbers() -> None:
    page = shown(DIGITS)
    assert "8 epochs; the model is of epoch 7, the best: validation accuracy 0.9571" in page
    assert page.count('<polyline class="validation"') == 2 and "0.9571" in page


def test_one_epoch_of_one_number_is_a_curve_already() -> None:
    run = replace(documents(DIGITS, state="running"), training=epochs(["epoch=1/8 validation:loss=0 train:loss=nan"]))
    page = bytes(report_page(run).body).decode()
    assert "1 of 8 epochs so far" in page and '<circle class="validation"' in page


def test_advice_stands_beside_its_evidence() -> None:
    page = shown(DIGITS)
    assert "Stop earlier (<code>patience</code>)." in page and "<code>limit</code> &lt;b&gt;" in page
    assert page.index("At step 9") < page.index("Stop earlier")


def test_certainty_is_told_in_words_and_by_threshold() -> None:
    panel = next(panel for panel in PANELS if panel.key == "certainty")
    view = panel.view(documents(DIGITS))
    assert view
    assert view["words"].startswith("Not as sure of itself as it may be: on the average it says 0.87")
    assert view["sentences"][view["asked"]].startswith("Answers that are at least 0.9 sure: 185 of 300 images (61.7 %)")
    assert view["sentences"][-1] == "Answers that are at least 0.999 sure: none of 300 images. The champion: 0 %."
    assert len(view["places"]) == len(view["sentences"]) == 102


def test_a_run_of_an_earlier_version_has_no_certainty() -> None:
    run = documents(DIGITS)
    assert run.evaluation
    for evaluation in run.evaluation.values():
        del evaluation["certainty"]
    page = bytes(report_page(run).body).decode()
    assert "Whether a score of 0.9 means nine of ten right" in page and 'id="threshold"' not in page


def test_nearly_all_is_not_rounded_to_all() -> None:
    assert [percent(share) for share in (0, 0.0001, 0.5, 0.99, 0.9999, 1)] == [
        "0 %", "under 0.1 %", "50 %", "99 %", "over 99.9 %", "100 %",
    ]  # fmt: skip


def test_where_the_time_went_is_drawn_and_advised() -> None:
    page = shown(DIGITS)
    assert "waiting for data 31.5 %" in page and "&lt;b&gt;mine&lt;/b&gt; 12.5 %" in page
    assert page.index("! Dataloader") < page.index("Keep decoded images (<code>x</code>).")
    assert "Network" not in page  # bytes, among percents


@pytest.mark.parametrize(
    "left", [{"html": "s3://x"}, {"triggered": ["A"], "usage": {"CPU": {"p50": "x"}}, "time": None}]
)
def test_a_profilers_report_of_an_earlier_version_is_shown(left: dict[str, Any]) -> None:
    page = shown(DIGITS, profiler={"html": "s3://x", **left})
    assert "The full report: " in page and ("! A" in page) == ("triggered" in left)


def test_a_page_waits_for_no_collection_of_all_that_airflow_loaded(airflow: Any) -> None:
    airflow.get("/retraining/models")
    assert gc.get_freeze_count() > 100_000
