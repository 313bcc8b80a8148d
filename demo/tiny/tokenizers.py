"""Word-level tokenizers whose decoded text equals the encoded text.

A tiny model learns to copy a word from its prompt into its answer when the word is *the same token* in both
places. Tokenizers that glue the space to the word break this: ``" proud"`` in a sentence and ``"proud"``
after a quotation mark would be two unrelated tokens. Here the rule is the other way round: two tokens are
separated by one space unless a joiner says otherwise, and the joiner sits on the punctuation mark, never on
the word.

    He said "proud", twice.   ->   He  said  "+  proud  +"  +,  twice  +.

(``+`` stands for the joiner U+2060.) Words of the given vocabulary are one token each; any other word falls
back to single characters (WordPiece), so text that users bring round-trips as well. A character outside
`CHARACTERS` becomes ``<unk>``.
"""

from collections.abc import Iterable, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

JOINER = "\u2060"  # WORD JOINER: no visible form, not a word character, and no news text contains it
EXTRA_SPACE = "\u2423"  # an open box stands for every space that is not the single one between two tokens
UNKNOWN = "<unk>"

MARKS = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^`{|}~\u00a3\u20ac\u00b0\u2013\u2014\u2018\u2019\u201c\u201d\u2026\n\t"
    + EXTRA_SPACE
)
LETTERS = (
    "0123456789_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    + "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœčćžšđłńęąśźżğşıřěůőű"
    + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝŒČĆŽŠĐŁŚŻŞİŘ"
)
CHARACTERS = LETTERS + MARKS
# Marks that are worth a token of their own in every position; the others cost one token more.
_OPENING = ['"', "(", "$", "**", "\u201c", "\u2018"]
_CLOSING = ['"', ")", "%", "**", ",", ".", ":", ";", "!", "?", "'", "-", "\u201d", "\u2019"]
_INNER = ["-", "'", "\u2019", "\n", ".", ",", "/", '"', "**"]


def build_tokenizer(words: Iterable[str], special_tokens: Sequence[str]) -> Tokenizer:
    """Build the tokenizer for a closed vocabulary.

    Args:
        words: Whole words and phrases; each is split as the tokenizer splits text (``two-day`` gives ``two``,
            ``day``) and every part becomes one token.
        special_tokens: Tokens that get the first ids, in this order. ``<unk>`` is added when it is missing.

    Returns:
        A tokenizer with ``decode(encode(text)) == text`` for every text over `CHARACTERS`.
    """
    tokenizer = Tokenizer(models.WordPiece(vocab={UNKNOWN: 0}, unk_token=UNKNOWN))
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    specials = list(dict.fromkeys([*special_tokens, UNKNOWN]))
    pieces = list(specials)
    pieces += [JOINER + JOINER]
    pieces += [form for character in CHARACTERS for form in (character, JOINER + character)]
    pieces += [mark for mark in ("**", JOINER + "**")]
    pieces += [mark + JOINER for mark in _OPENING]
    pieces += [JOINER + mark for mark in _CLOSING]
    pieces += [JOINER + mark + JOINER for mark in _INNER]
    for word in sorted(set(words)):
        normal = tokenizer.normalizer.normalize_str(word)
        pieces += [part for part in normal.split(" ") if part and JOINER not in part]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer.model = models.WordPiece(
        vocab=vocabulary, unk_token=UNKNOWN, continuing_subword_prefix=JOINER, max_input_chars_per_word=1000
    )
    tokenizer.decoder = _decoder()
    tokenizer.add_special_tokens(specials)
    return tokenizer


def fast_tokenizer(
    tokenizer: Tokenizer, *, begin: str | None = None, **names: str
) -> PreTrainedTokenizerFast:
    """Wrap a tokenizer for transformers: left padding for batched generation, decoding without clean-up.

    Args:
        tokenizer: From `build_tokenizer`.
        begin: Special token put before every encoded text (the Llama habit); None for none.
        names: ``eos_token="</s>"`` and the like, passed on.
    """
    if begin is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        padding_side="left",
        truncation_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        **names,
    )


def _normalizer() -> normalizers.Normalizer:
    word, mark = r"[\p{L}\p{M}\p{N}_]", rf"[^\p{{L}}\p{{M}}\p{{N}}_ {JOINER}]"
    return normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(JOINER, ""),
            normalizers.Replace("\u00a0", " "),
            normalizers.Replace(Regex(r"^ | (?= )| $"), EXTRA_SPACE),
            # A word right after a mark: the mark carries the joiner. The match is empty, so no text is lost.
            normalizers.Replace(Regex(rf"(?<={mark})(?={word})"), JOINER + " "),
            # A mark right after anything: it carries the joiner in front. Stars stay together (**word**).
            normalizers.Replace(Regex(rf"(?<=[^ *])(?={mark})|(?<=\*)(?=(?!\*){mark})"), " " + JOINER),
        ]
    )


def _decoder() -> decoders.Decoder:
    return decoders.Sequence(
        [
            decoders.WordPiece(prefix=JOINER, cleanup=False),
            decoders.Fuse(),
            decoders.Replace(JOINER + " ", ""),
            decoders.Replace(JOINER, ""),
            decoders.Replace(EXTRA_SPACE, " "),
        ]
    )
