"""What the page of results says besides its numbers."""

from collections.abc import Collection

START = """# Porting between small transformers

Networks of transformers, trained here on real data, saved as model folders and ported as
`symport port` does it: two bases of one architecture, trained on the same data from different
seeds, and a third that continues the first one's training. The first is fine-tuned on something
else, and the fine-tune goes to the other two.
"""

NETWORKS = {
    "llama": """- **Llama**: 4 layers of width 64, 4 query heads, 2 key heads, 64 bytes at a
  time. Bases read Tiny Shakespeare, the fine-tune WikiText-2, in all weights or by LoRA of rank
  8.""",
    "bert": """- **BERT**: 4 layers of width 64, 16 words at a time. Bases guess hidden words of
  plays, encyclopedia and school problems; the fine-tune classifies the three.""",
    "vit": """- **ViT**: 4 layers of width 64, patches of 8. Bases know the 10 classes of CIFAR-10,
  the fine-tune 25 classes of CIFAR-100; its head is carried along.""",
}

REST = """
Share of lift is (loss of the untouched new base − loss of the way) / (loss of the old base − loss
of the fine-tune) on examples that nothing was trained on, mean ± standard deviation over as many
draws of the examples as the table says (3×). It may exceed 100% where the new base had more to
learn than the old one. Step, length and number of training steps are cross-validated on the drawn
examples alone, for every way, and *picked* says which way they picked, in how many draws. Training
directly starts from the untouched new base; with LoRA it trains a fresh adapter.

`symport-recipes run ports-llama --out docs/results` repeats the Llama; `ports-bert` and `ports-vit`
are the others. Settings: `symport_recipes/ports/_settings.py`. A run that is in
`docs/results/ports/*.json` is not run again.

## In short

Spreads are over draws of the examples; the networks are the same in all of them.

- **Where the new base continues the old one, the identity is right.** The Llama and the ViT take
  the fine-tune over whole, or nine tenths of it, from any number of examples, and direct training
  does not reach that with the same ones. Often a way that ends within a hair of the identity is
  picked, with a step of training on top or a few units moved.
- **Between independent bases the identity gives no lift.** Weights and activations align a part
  of the units, gradients more. For the ViT that carries half of the lift, and with 16 or 64 labels
  training directly on them is far behind; for the Llama it carries a fifth, of an adapter less.
- **A transfer gives most as the start of training.** For the Llama that beats training from
  the new base with 16 or 64 examples, for the ViT with any number; with 256 texts it gains nothing.
  For an adapter it gives nothing with 16 examples and a little with more.
- **Loss and accuracy differ.** A classifier that has been transferred may answer rightly with far
  too high confidence. The small BERT is such a case: on both bases its loss hardly falls, or rises,
  while right answers double, and the choice, which goes by loss, keeps the fine-tune short. Look at
  the accuracies in `report.html` too. Direct training, 64 steps at most, learns nothing there, and
  a few steps from the transfer lower the loss where the base is a continued one.

The fine-tunes of BERT and ViT have not seen the examples that port them, for a network is too sure
of those that it was trained on, and the choice is misled; that of the Llama has read its text once
at most.
"""

NOTE = [
    "## Options of gradient matching",
    "",
    "The Llama, all weights, to the independent base, 64 examples. Share of lift, in %, at the",
    "step and length that are best on the reporting set itself, so that no choice adds its noise,",
    "and at the last step as it is. A row differs from the first in what it names; differences of",
    "a few points between rows of one draw are noise.",
    "`symport-recipes run options --out docs/results`",
    "",
]


def head(scenes: Collection[str]) -> str:
    """The beginning of the page, with the networks of the scenes that have been run."""
    return "\n".join([START, *(text for name, text in NETWORKS.items() if name in scenes), REST])
