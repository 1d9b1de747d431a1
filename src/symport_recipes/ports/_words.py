"""The text of the page of results."""

from collections.abc import Collection

START = """# Porting between small transformers

Small models of transformers, trained on real data, saved as model folders and ported as by
`symport port`. Two bases of one architecture are trained on the same data from different seeds, and
a third one continues the training of the first. The first is fine-tuned on another task, and the
fine-tune is ported to the other two.
"""

NETWORKS = {
    "llama": """- **Llama**: 4 layers of width 64, 4 query heads, 2 key heads, a context of 64
  bytes. The bases are trained on Tiny Shakespeare, the fine-tune on WikiText-2, in all weights or
  by LoRA of rank 8.""",
    "bert": """- **BERT**: 4 layers of width 64, a context of 16 words. The bases are trained to
  predict masked words of plays, encyclopedia articles and school problems; the fine-tune classifies
  texts as one of the three.""",
    "vit": """- **ViT**: 4 layers of width 64, patches of 8. The bases are trained on the 10 classes
  of CIFAR-10, the fine-tune on 25 classes of CIFAR-100; its head is ported with it.""",
}

REST = """
Share of lift is (loss of the untouched new base − loss of the candidate) / (loss of the old base −
loss of the fine-tune) on held-out examples, mean ± standard deviation over several draws of the
examples (3× in the table means three draws). It can exceed 100% if the loss of the new base is
higher than that of the old one. For every candidate, step, scale and number of training steps are
cross-validated on the drawn examples alone. *Picked* shows which candidate was selected, and in how
many draws. Direct training starts from the untouched new base; with LoRA it trains a new adapter.

`symport-recipes run ports-llama --out docs/results` repeats the Llama, `ports-bert` and `ports-vit`
the others. Runs that are recorded in `docs/results/ports/*.json` are not repeated without `--anew`.

## Summary

Standard deviations are over draws of the examples; the networks are the same in all draws.

- **If the new base continues the old one, the identity is the right choice.** For the Llama, it
  gives the whole lift, and for the ViT nine tenths of it, with any number of examples. Direct
  training on the same examples does not reach that. The selected candidate is often one that
  differs little from the identity: one with a step of training, or with a few units permuted.
- **Between independent bases, the identity gives no lift.** Weight matching and activation matching
  align some of the units, gradient matching more. This gives half of the lift for the ViT, where
  direct training on 16 or 64 labels is far worse; it gives a fifth for the Llama, and less for its
  adapter.
- **A transfer is most useful as a starting point for training.** For the Llama, training from the
  transfer is better than training from the new base with 16 or 64 examples, but not with 256; for
  the ViT, with any number. For the adapter, it gives nothing with 16 examples and a little with
  more.
- **Loss and accuracy can disagree.** After a transfer, a classifier can give right answers with far
  too high confidence. The small BERT is an example: on both bases, its loss falls little or even
  rises, while the share of right answers rises, up to twofold. As candidates are selected by loss,
  too small a part of the displacement is selected. Compare the accuracies in `report.html` too.
  Direct training of at most 64 steps learns nothing there; on the continued base, a few steps from
  the transfer lower the loss.

The fine-tunes of BERT and ViT were not trained on the examples that are used for porting, since a
network is overconfident on its training data, which distorts the selection. That of the Llama was
trained on each text at most once.
"""

NOTE = [
    "## Options of gradient matching",
    "",
    "The Llama, all weights, to the independent base, 64 examples. Share of lift, in %, at the",
    "step and scale that are best on the held-out examples themselves, so that selection adds no",
    "noise, and at the last step. Each row differs from the first by the option that it names.",
    "Differences of a few points between rows of one draw are noise.",
    "`symport-recipes run options --out docs/results`",
    "",
]


def head(scenes: Collection[str]) -> str:
    """The beginning of the page, with the networks of the scenes that have been run."""
    return "\n".join([START, *(text for name, text in NETWORKS.items() if name in scenes), REST])
