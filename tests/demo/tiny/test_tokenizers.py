import pytest
from transformers import AutoTokenizer

from demo.newsroom import generate_items, vocabulary
from demo.tiny.data_chat import chat_vocabulary
from demo.tiny.tokenizers import JOINER, UNKNOWN, build_tokenizer, fast_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(vocabulary(), ["<pad>", "<s>", "</s>"])


@pytest.mark.parametrize(
    "text",
    [
        'She said "proud", twice.',
        "“It’s a great day,” says a proud captain – for $5 million (50%)!",
        "a last-minute victory: 1,200.50 euros; who?",
        "**mourns** after the **five-year plan.** ***odd***",
        "Original: x\nNew: y\n\nEnd",
        "two  spaces, a trailing one ",
        " a leading one",
        "words nobody listed: Zelensky's Übergröße, crème brûlée",
        "?!...--''\"\"",
        "",
    ],
)
def test_decoding_gives_back_the_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_every_world_text_round_trips_without_spelling_a_word_out(tokenizer):
    for item in generate_items(400, seed=31):
        encoding = tokenizer.encode(item.text)
        assert tokenizer.decode(encoding.ids) == item.text
        spelled = [t for t in encoding.tokens if len(t) == 2 and t[0] == JOINER and t[1].isalnum()]
        assert not spelled, f"{item.text} is encoded as {encoding.tokens}"


def test_a_word_is_the_same_token_plain_quoted_and_marked(tokenizer):
    plain, quoted, marked = (tokenizer.encode(t).tokens for t in ("is proud", 'is "proud",', "is **proud**"))
    assert "proud" in plain and "proud" in quoted and "proud" in marked


def test_a_character_outside_the_alphabet_becomes_the_unknown_token(tokenizer):
    assert UNKNOWN in tokenizer.encode("a 漢 b").tokens
    assert "b" in tokenizer.encode("a 漢 b").tokens[-1]


def test_a_saved_tokenizer_decodes_the_same(tokenizer, tmp_path):
    text = 'He "smiles", for $5.'
    fast_tokenizer(
        build_tokenizer(vocabulary(), ["<pad>", "<s>"]), begin="<s>", pad_token="<pad>"
    ).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.padding_side == "left"
    ids = loaded(text).input_ids
    assert loaded.decode(ids, skip_special_tokens=True) == text
    assert loaded.convert_ids_to_tokens(ids)[0] == "<s>"


def test_the_chat_vocabulary_covers_prompts_and_answers():
    from demo.tiny.data_chat import conversations

    tokenizer = build_tokenizer(chat_vocabulary(), [])
    known = set(tokenizer.get_vocab())
    stream = conversations(5)
    for _ in range(200):
        example = next(stream)
        for text in (example.prompt, example.answer):
            assert tokenizer.decode(tokenizer.encode(text).ids) == text
    for word in "Name the words that were changed".split():
        assert word in known
