"""Prompt tuning (Lester et al. 2021). BERT: rows in front of the word
embeddings, so that positions, type 0 and the embeddings' norm are theirs, too; the head reads the
class token (pool=token) or the first row of all (pool=first), as peft does. ViT: as vpt."""

from methods import vpt
from methods.term import normal


class Method(vpt.Method):
    options = {"tokens": 20, "init": "random", "text": "", "pool": "token"}
    names = ["prompt.tokens"]

    def initial(self, name, shape, g):
        return normal(shape, 1.0, g)

    def words(self, run, x):
        if self.o.pool == "token":
            run.first += self.o.tokens
        return run.insert(x, run.p["prompt.tokens"], 0)

    def embedded(self, run, x):
        return super().embedded(run, x) if self.m.family == "vit" else x
