"""A team as a tool of another framework: an agent of Pydantic AI has its sums done by a team.

The agent's model is scripted (``FunctionModel``), so that nothing here needs a network; give
``Agent`` the name of another model, and that one decides what to call. The team is as ever.
It needs ``pip install pydantic-ai-slim``.
"""

import anyio
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from hogwild_agents import Team, load_model
from hogwild_agents.policies import paper_policies

team = Team(load_model(), workers=["Alice", "Bob", "Carol"], policies=paper_policies())


async def add_up(sums: list[str]) -> list[int]:
    """Work out sums, all of them at the same time.

    Args:
        sums: such as "12 - 5 + 8", with terms up to 9 and results from 0 to 30; 12 at most.
    """
    tasks = [f"{label}) {text}" for label, text in zip("abcdefghijkl", sums, strict=False)]
    result = await team.solve(f"Tasks: {' '.join(tasks)}", answer_type=list[int])
    print(f"The team took {result.ticks} ticks")
    return result.parsed


def decide(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """What the agent's model does: it calls the tool, then tells what came of it."""
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse(parts=[TextPart(f"The baskets hold {last.content} fruits.")])
    [tool] = info.function_tools
    sums = ["7 + 1 + 3", "4 + 9 - 6", "12 - 5 + 8"]
    return ModelResponse(parts=[ToolCallPart(tool.name, {"sums": sums})])


async def main() -> None:
    """Ask the agent."""
    agent = Agent(FunctionModel(decide), tools=[add_up])
    result = await agent.run("How many fruits do the three baskets hold?")
    print(result.output)


if __name__ == "__main__":
    anyio.run(main)

# It prints:
# The team took 16 ticks
# The baskets hold [11, 7, 15] fruits.
