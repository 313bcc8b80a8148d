from __future__ import annotations

import pickle

import pytest

from tests.training.data.building import CLIP
from training.data import tokens as module
from training.data.batch import NO_WORD
from training.data.tokens import PADDING, WordTokenizer
from training.errors import UsageError

HARD = "$5 “Hello,” 50% @bbc well-known 2010–2015 it’s naïve — &amp; … U.S.".split()


@pytest.fixture(scope="module", params=["ViT-B-16", CLIP])
def tokenizer(request):
    return WordTokenizer(request.param)


def words_of(tokenizer, encoded):
    """Group the tokens between begin and end by the word they claim."""
    groups = {}
    for token, word in zip(encoded.ids[1:-1], encoded.word[1:-1], strict=True):
        groups.setdefault(word, []).append(token)
    return groups


def test_every_token_of_a_hard_word_knows_its_word(tokenizer):
    encoded = tokenizer.encode(HARD)
    assert (encoded.ids[0], encoded.ids[-1]) == (tokenizer.begin, tokenizer.end)
    assert (encoded.word[0], encoded.word[-1]) == (NO_WORD, NO_WORD)
    assert encoded.kept == len(HARD)
    alone = {n: tokenizer.encode([word]).ids[1:-1] for n, word in enumerate(HARD)}
    assert words_of(tokenizer, encoded) == alone
    assert all(alone.values())


def test_words_are_the_same_pieces_as_in_the_tokenizer_of_the_towers():
    import open_clip

    text = "Person 5 smiles at the $20 gate, on “good” news: well-known in Lima"
    ours = WordTokenizer("ViT-B-16").encode_text(text)
    theirs = open_clip.get_tokenizer("ViT-B-16")([text])[0]
    assert ours == theirs[theirs != 0].tolist()


@pytest.mark.parametrize("word", ["\ufeff", "<end_of_text>", "<start_of_text>", "<pad>", "!!&quot;"])
def test_no_word_vanishes_or_passes_for_an_end_or_for_padding(tokenizer, word):
    encoded = tokenizer.encode(["one", word, "two"])
    assert encoded.kept == 3 and set(encoded.word[1:-1]) == {0, 1, 2}
    assert not {tokenizer.begin, tokenizer.end, PADDING} & set(encoded.ids[1:-1])


@pytest.mark.parametrize("tokens", range(4, 24))
def test_a_word_is_kept_whole_or_dropped_with_all_after_it(tokenizer, tokens):
    short = WordTokenizer(tokenizer.towers, tokens)
    encoded = short.encode(HARD)
    assert len(encoded.ids) <= tokens and encoded.ids[-1] == short.end
    full = words_of(tokenizer, tokenizer.encode(HARD))
    assert words_of(short, encoded) == {n: full[n] for n in range(encoded.kept)}
    following = len(full[encoded.kept]) if encoded.kept < len(HARD) else tokens
    assert len(encoded.ids) + following > tokens


def test_no_more_than_max_words_are_read(tokenizer):
    assert tokenizer.encode(HARD, 3).ids == tokenizer.encode(HARD[:3]).ids
    assert tokenizer.encode(HARD, 3).kept == 3


def test_a_copy_for_another_process_encodes_the_same(tokenizer):
    again = pickle.loads(pickle.dumps(WordTokenizer(tokenizer.towers, 16)))
    assert again.max_tokens == 16
    assert again.encode(HARD) == WordTokenizer(tokenizer.towers, 16).encode(HARD)


def test_the_words_that_are_remembered_are_bounded(monkeypatch):
    words = [f"w{n}" for n in range(12)]
    expected = WordTokenizer(CLIP).encode(words)
    monkeypatch.setattr(module, "_KNOWN_WORDS", 4)
    forgetful = WordTokenizer(CLIP)
    assert forgetful.encode(words) == forgetful.encode(words) == expected
    assert expected.kept == 12 and forgetful._word.cache_info().currsize == 4


def test_more_tokens_than_the_context_and_unknown_towers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="78 is more than the 77"):
        WordTokenizer("ViT-B-16", 78)
    with pytest.raises(UsageError, match="no model 'ViT-B-17'"):
        WordTokenizer("ViT-B-17")
    with pytest.raises(UsageError, match="cannot be opened"):
        WordTokenizer(f"local-dir:{tmp_path}")
