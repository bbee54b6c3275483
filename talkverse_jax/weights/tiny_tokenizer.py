"""A tiny tokenizer for checkpoints with random weights: takes any text, follows T5's conventions."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
SPACE = "▁"
TRANSFORMERS = {  # what AutoTokenizer needs beside `tokenizer.json`
    "tokenizer_class": "PreTrainedTokenizerFast",
    "pad_token": PAD,
    "eos_token": END,
    "unk_token": UNKNOWN,
    "model_max_length": 512,
}

# Frequent pieces of English; what they lack is spelt in letters, and what ASCII lacks in bytes.
_WORDS = (
    "the a an of in on at to and with is are person man woman face mouth eyes hair head hand camera video "
    "light room speaking talking looking smiling sitting standing young old portrait front close up "
    "talks looks smiles serious short parted curly long bobbed tied- black brown blond red grey blue green yellow "
    "white dark purple cream mint pink lavender teal round square glasses jumper shirt hoodie wall striped dots "
    "window"
)
_FRAGMENTS = "th he in er an re nd on en at ou ed ha to or it is hi es ng ing tion ly"


def tiny_tokenizer() -> Tokenizer:
    """A Unigram tokenizer of some 450 tokens: pad 0, end 1 (appended to every text), unknown 2."""
    characters = [SPACE, *(chr(code) for code in range(0x21, 0x7F))]
    pieces = [SPACE + word for word in _WORDS.split()] + _FRAGMENTS.split()
    vocabulary = [(PAD, 0.0), (END, 0.0), (UNKNOWN, 0.0)]
    vocabulary += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    vocabulary += [(character, -8.0) for character in characters]
    vocabulary += [(piece, -4.0) for piece in pieces]  # one piece is likelier than its letters together

    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2, byte_fallback=True))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in (PAD, END, UNKNOWN)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return tokenizer


def save_tiny_tokenizer(folder: str | Path) -> None:
    """Write `tokenizer.json` and what transformers' AutoTokenizer needs beside it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(TRANSFORMERS, indent=2) + "\n")
