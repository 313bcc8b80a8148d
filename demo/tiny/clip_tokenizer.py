"""The tokenizer of the tiny CLIP: lower-case words, each punctuation mark a token of its own.

Unlike in `demo.tiny.tokenizers`, nothing has to be decoded, and a word gives the same tokens alone as in
a sentence, because trainers that point at words tokenize one word at a time.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from demo.newsroom import tokenize, vocabulary
from demo.tiny.explanations import explanation_vocabulary
from demo.tiny.tokenizers import LETTERS, MARKS, UNKNOWN

PADDING = "<pad>"
BEGIN = "<start_of_text>"
END = "<end_of_text>"
_INSIDE = "##"  # before a character that continues a word


def clip_words() -> list[str]:
    """Every word and mark of the texts, captions and reference explanations of every world, sorted."""
    words = [*vocabulary(), *(part for word in explanation_vocabulary() for part in tokenize(word))]
    return sorted({word.lower() for word in words})


def build_clip_tokenizer(words: Iterable[str], context_length: int) -> PreTrainedTokenizerFast:
    """Build the tokenizer.

    Args:
        words: Words that are one token each; any other word is spelled in characters after the longest known
            beginning, and a character that no word here uses makes it ``<unk>``.
        context_length: Length that texts are padded and cut to when asked for.

    Returns:
        A tokenizer that puts `BEGIN` before and `END` after a text. Padding is id 0, and `END` is the largest
        id, for CLIP reads a text's feature at the largest id.
    """
    letters = sorted(set(LETTERS.lower()))
    pieces = [PADDING, UNKNOWN, BEGIN, *letters, *(_INSIDE + letter for letter in letters)]
    pieces += [mark for mark in MARKS if not mark.isspace()]
    pieces += sorted(set(words))
    pieces = [*dict.fromkeys(pieces), END]
    ids = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab=ids, unk_token=UNKNOWN, continuing_subword_prefix=_INSIDE))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[^\w\s]"), "isolated")]
    )
    tokenizer.add_special_tokens([PADDING, UNKNOWN, BEGIN, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, ids[BEGIN]), (END, ids[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        padding_side="right",
        truncation_side="right",
        clean_up_tokenization_spaces=False,
        model_max_length=context_length,
    )
