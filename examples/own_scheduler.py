"""The engine alone, for those who bring their own scheduler: two workers, greedy, ten ticks.

Each worker sees the other's newest token in the very forward in which it is fed. Prints what both
wrote, and that a block's text moved to the history scores the same there as before.
"""

import torch

from hogwild_agents import Feed, load_model

model = load_model()
engine = model.engine

prompt, alice, bob = engine.block("prompt"), engine.block("Alice"), engine.block("Bob")
problem = "<|user|>Tasks: a) 7 + 1 - 3 b) 4 + 9 - 6<|assistant|><think>\n"
engine.forward([Feed(prompt, [prompt], model.tokenizer.encode(problem))])

views = {alice: [prompt, bob, alice], bob: [prompt, alice, bob]}
pending = {alice: model.encode("**Alice [1]:** "), bob: model.encode("**Bob [1]:** ")}
for _ in range(10):
    logits = engine.forward([Feed(block, views[block], pending[block]) for block in views])
    pending = {block: [int(row.argmax())] for block, row in zip(views, logits, strict=True)}
for block in views:
    print(f"{block.name} wrote {model.decode(block.tokens)!r}")

# Nothing is encoded again when text moves: its keys are rotated once, to the end of the prompt.
question = model.encode("**Carol [1]:** ")
carol = engine.block("Carol")
before = engine.forward([Feed(carol, [prompt, alice, carol], question)])
engine.truncate(carol, 0)
engine.move(alice, prompt)
after = engine.forward([Feed(carol, [prompt, carol], question)])
same = torch.allclose(before, after, atol=1e-4)
print(f"moved to the prompt, Alice's text gives Carol the same logits: {same}")
model.close()

# It prints:
# Alice wrote '**Alice [1]:** a) 7 + 1 = 8 - 3 ='
# Bob wrote '**Bob [1]:** b) 4 + 9 = 13 - 6 ='
# moved to the prompt, Alice's text gives Carol the same logits: True
