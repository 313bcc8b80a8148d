"""The checkpoints in demo/models: form, size, and a quick look at how good they are."""

import pytest
from transformers import InstructBlipForConditionalGeneration, InstructBlipProcessor

from demo.newsroom import distinct_pictures, encode, generate_items, render
from demo.tiny.captioner import INSTRUCTION
from demo.tiny.data_pairs import pristine_items
from demo.tiny.evaluate import model_config
from demo.tiny.measure import measure_captions, measure_explanations
from demo.tiny.probe import frozen_features, retrieval
from demo.tiny.train import MODELS
from pipeline.engines import Request, get_engine
from pipeline.prompts import load_prompt

UNSEEN = 4711


def test_checkpoints_are_small_and_hold_safetensors_only():
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 9_000_000
    assert sum(path.stat().st_size for path in (MODELS / "clip").iterdir()) <= 3_500_000
    weights = sorted(p.parent.name for p in files if p.suffix == ".safetensors")
    assert weights == ["clip", "glm", "instructblip"]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md"}


@pytest.fixture(scope="module")
def items():
    return list(generate_items(300, UNSEEN))


def test_captions_describe_the_pixels_of_an_unseen_world(items, tmp_path):
    pictures = distinct_pictures(items)[:64]
    assert sum("face" in item.fake_cls for item in pictures) >= 15
    figures = measure_captions(pictures, get_engine(model_config(MODELS / "instructblip")), tmp_path)
    shares = figures.shares
    # 64 pictures: three standard errors below the shipped figures is still above these.
    assert shares["attributes right"].value >= 0.95, "\n".join(figures.mistakes[:3])
    assert shares["captions right"].value >= 0.75, "\n".join(figures.mistakes[:3])
    assert shares["attributes claimed"].value >= 0.99


def test_explanations_name_the_changed_words_of_an_unseen_world(items):
    manipulated = [item for item in items if "text" in item.fake_cls][:40]
    plain = [item for item in items if "text" not in item.fake_cls][:16]
    figures = measure_explanations(manipulated + plain, get_engine(model_config(MODELS / "glm")))
    assert figures.shares["changes named"].total == 80
    assert figures.shares["changes named"].value >= 0.95, "\n".join(figures.mistakes[:3])
    assert figures.shares["descriptions identical to the reference"].value >= 0.8


def test_the_plain_transformers_interface_writes_the_same_captions_as_the_engine(items, tmp_path):
    pictures = distinct_pictures(items)[:6]
    folder = MODELS / "instructblip"
    processor = InstructBlipProcessor.from_pretrained(folder)
    model = InstructBlipForConditionalGeneration.from_pretrained(folder)
    inputs = processor(
        images=[render(item) for item in pictures],
        text=[INSTRUCTION] * len(pictures),
        padding=True,
        return_tensors="pt",
    )
    written = model.generate(**inputs, max_new_tokens=48)[:, inputs["input_ids"].shape[1] :]
    plain = [text.strip() for text in processor.batch_decode(written, skip_special_tokens=True)]
    requests = []
    for number, item in enumerate(pictures):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(encode(item))
        requests.append(Request(key=str(number), prompt=INSTRUCTION, image=path))
    by_engine = {r.key: r.text for r in get_engine(model_config(folder)).generate(requests)}
    assert plain == [by_engine[str(number)] for number in range(len(pictures))]


def test_the_towers_match_pictures_and_texts_of_an_unseen_world():
    rows = pristine_items(128, UNSEEN)
    to_text, to_picture = retrieval(frozen_features(MODELS / "clip", rows), batch=128)
    assert min(to_text, to_picture) >= 0.9


def test_the_instruction_of_training_is_the_prompt_template():
    assert load_prompt("caption-v1").render() == INSTRUCTION


def test_news_of_the_users_own_gets_an_answer_and_never_an_unknown_token():
    engine = get_engine(model_config(MODELS / "glm"))
    prompt = load_prompt("manipulation-pair-v1").render(
        original_text="Chancellor Zelinka hails the EU's 'historic' €1.2bn deal",
        text="Chancellor Zelinka slams the EU's 'historic' €1.2bn deal",
    )
    (result,) = engine.generate([Request(key="own", prompt=prompt)])
    assert result.text and "<unk>" not in result.text
