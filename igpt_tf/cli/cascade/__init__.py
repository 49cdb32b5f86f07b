"""The commands of the latent cascade, a module for each."""

EXAMPLES = (
    "train nano-cascade --data photos --out my-cascade",
    "generate --model my-cascade --n 16",
)
PARTS = {
    "train": "train a whole cascade by a recipe; the same command resumes",
    "generate": "draw pictures from coarse to fine, or variations of photographs",
    "autoencoder": "train an autoencoder of images",
    "encode": "encode images to a store of maps",
    "codebook": "train a codebook of maps",
    "prune": "leave out the units of a codebook that are rarely used",
    "base": "train the model of the coarse codes",
    "refine": "train a model of finer codes given coarser ones",
    "assemble": "put parts that were trained one by one into one cascade",
}
