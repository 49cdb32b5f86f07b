"""The commands of the latent cascade, a module for each."""

EXAMPLES = (
    "train nano-cascade --data photos --out my-cascade",
    "generate --n 16",
)
PARTS = {
    "train": "train a whole cascade by a recipe; the same command resumes",
    "generate": "draw pictures from coarse to fine, or variations of photographs",
    "complete": "fill in the missing part of pictures",
    "autoencoder": "train an autoencoder of images",
    "encode": "encode images to a store of maps",
    "codebook": "train a codebook of maps",
    "adapt": "train an autoencoder and its finest codebook together",
    "prune": "leave out the units of a codebook that are rarely used",
    "base": "train the model of the coarse codes",
    "refine": "train a model of finer codes given coarser ones",
    "assemble": "put parts that were trained one by one into one cascade",
}
