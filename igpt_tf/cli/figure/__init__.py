"""The commands that draw figures, a module for each."""

EXAMPLES = ("attention photo.jpg --layer 6 --pixel 16,20", "layers out/probe --out layers.pdf")
PARTS = {
    "attention": "where each head looks for a pixel of a picture",
    "surprise": "which pixels of pictures the model does not expect",
    "palette": "the colours of a palette, and what it makes of pictures",
    "completions": "the known part of pictures, their completions and the originals: the paper's figure 1",
    "layers": "accuracy of linear probes by layer, of one or several models: the paper's figure 2",
    "progress": "accuracy of a linear probe against the loss over the checkpoints of runs: the paper's figure 3",
}
