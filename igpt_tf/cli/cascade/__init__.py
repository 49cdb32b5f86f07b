"""The commands of the latent cascade, a module for each."""

EXAMPLES = (
    "train nano-cascade --data photos --out my-cascade",
    "generate --model my-cascade --n 16",
)
PARTS = {
    "train": "train a whole cascade by a recipe; the same command resumes",
    "generate": "draw pictures from coarse to fine",
}
