"""Further commands on a trained model: latents to disk, scores of sentences, edits."""
