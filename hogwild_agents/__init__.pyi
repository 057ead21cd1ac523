"""The public names, for type checkers; ``__init__.py`` imports each when it is first used."""

from hogwild_agents.actions import (
    Action as Action,
)
from hogwild_agents.actions import (
    Conclude as Conclude,
)
from hogwild_agents.actions import (
    Finish as Finish,
)
from hogwild_agents.actions import (
    Say as Say,
)
from hogwild_agents.answers import (
    find_boxed as find_boxed,
)
from hogwild_agents.coordinator import (
    CacheCoordinator as CacheCoordinator,
)
from hogwild_agents.coordinator import (
    Commit as Commit,
)
from hogwild_agents.coordinator import (
    Move as Move,
)
from hogwild_agents.coordinator import (
    Seat as Seat,
)
from hogwild_agents.coordinator import (
    TickFeed as TickFeed,
)
from hogwild_agents.engine import (
    BlockSlice as BlockSlice,
)
from hogwild_agents.engine import (
    CacheBlock as CacheBlock,
)
from hogwild_agents.engine import (
    Engine as Engine,
)
from hogwild_agents.engine import (
    Feed as Feed,
)
from hogwild_agents.engine import (
    Sampled as Sampled,
)
from hogwild_agents.engine import (
    Sampler as Sampler,
)
from hogwild_agents.engine import (
    SamplingParams as SamplingParams,
)
from hogwild_agents.engine import (
    ViewEntry as ViewEntry,
)
from hogwild_agents.engine import (
    sample as sample,
)
from hogwild_agents.errors import (
    CacheFullError as CacheFullError,
)
from hogwild_agents.errors import (
    ChatTemplateError as ChatTemplateError,
)
from hogwild_agents.errors import (
    ClosedError as ClosedError,
)
from hogwild_agents.errors import (
    ConfigError as ConfigError,
)
from hogwild_agents.errors import (
    ContextLengthError as ContextLengthError,
)
from hogwild_agents.errors import (
    FeedError as FeedError,
)
from hogwild_agents.errors import (
    HogwildError as HogwildError,
)
from hogwild_agents.errors import (
    LimitError as LimitError,
)
from hogwild_agents.errors import (
    ModelError as ModelError,
)
from hogwild_agents.errors import (
    PolicyError as PolicyError,
)
from hogwild_agents.errors import (
    ProblemError as ProblemError,
)
from hogwild_agents.errors import (
    RunError as RunError,
)
from hogwild_agents.errors import (
    TickError as TickError,
)
from hogwild_agents.errors import (
    TranscriptError as TranscriptError,
)
from hogwild_agents.errors import (
    UnsupportedModelError as UnsupportedModelError,
)
from hogwild_agents.errors import (
    UsageError as UsageError,
)
from hogwild_agents.events import (
    ActionTaken as ActionTaken,
)
from hogwild_agents.events import (
    Event as Event,
)
from hogwild_agents.events import (
    LimitReached as LimitReached,
)
from hogwild_agents.events import (
    PolicyFailed as PolicyFailed,
)
from hogwild_agents.events import (
    RunEnded as RunEnded,
)
from hogwild_agents.events import (
    RunStarted as RunStarted,
)
from hogwild_agents.events import (
    StepEnded as StepEnded,
)
from hogwild_agents.events import (
    TickEnded as TickEnded,
)
from hogwild_agents.events import (
    TokensWritten as TokensWritten,
)
from hogwild_agents.events import (
    WorkerLeft as WorkerLeft,
)
from hogwild_agents.layouts import (
    Board as Board,
)
from hogwild_agents.layouts import (
    Combined as Combined,
)
from hogwild_agents.layouts import (
    Contiguous as Contiguous,
)
from hogwild_agents.layouts import (
    Headings as Headings,
)
from hogwild_agents.layouts import (
    Interleaved as Interleaved,
)
from hogwild_agents.layouts import (
    Isolated as Isolated,
)
from hogwild_agents.layouts import (
    Layout as Layout,
)
from hogwild_agents.layouts import (
    Place as Place,
)
from hogwild_agents.limits import (
    Limits as Limits,
)
from hogwild_agents.models import (
    LanguageModel as LanguageModel,
)
from hogwild_agents.models import (
    load_model as load_model,
)
from hogwild_agents.policy import (
    Observer as Observer,
)
from hogwild_agents.policy import (
    Policy as Policy,
)
from hogwild_agents.prompt import (
    Prompt as Prompt,
)
from hogwild_agents.result import (
    RunResult as RunResult,
)
from hogwild_agents.result import (
    Step as Step,
)
from hogwild_agents.run import (
    Run as Run,
)
from hogwild_agents.statistics import (
    Statistics as Statistics,
)
from hogwild_agents.team import (
    Team as Team,
)
from hogwild_agents.transcript import (
    Transcript as Transcript,
)
from hogwild_agents.transcript import (
    read_transcript as read_transcript,
)
from hogwild_agents.transcript import (
    rebuild as rebuild,
)
from hogwild_agents.worker import (
    Token as Token,
)
from hogwild_agents.worker import (
    Worker as Worker,
)

__version__: str
__all__: list[str]
