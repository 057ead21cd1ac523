"""The public names, for type checkers; ``__init__.py`` imports each when it is first used."""

from hogwild_agents.actions import (
    Action as Action,
    Ban as Ban,
    Bias as Bias,
    ChangeSampling as ChangeSampling,
    Conclude as Conclude,
    Dismiss as Dismiss,
    EndStep as EndStep,
    Finish as Finish,
    Forget as Forget,
    Hide as Hide,
    Park as Park,
    Probe as Probe,
    Resume as Resume,
    Say as Say,
    Show as Show,
    Spawn as Spawn,
)
from hogwild_agents.answers import (
    find_boxed as find_boxed,
)
from hogwild_agents.coordinator import (
    CacheCoordinator as CacheCoordinator,
    Commit as Commit,
    Fork as Fork,
    Forked as Forked,
    Move as Move,
    Seat as Seat,
    TickFeed as TickFeed,
    TickResult as TickResult,
)
from hogwild_agents.engine import (
    BlockSlice as BlockSlice,
    CacheBlock as CacheBlock,
    Engine as Engine,
    Feed as Feed,
    ParallelEngine as ParallelEngine,
    Sampled as Sampled,
    Sampler as Sampler,
    SamplingParams as SamplingParams,
    ViewEntry as ViewEntry,
    sample as sample,
)
from hogwild_agents.errors import (
    AnswerError as AnswerError,
    CacheFullError as CacheFullError,
    ChatTemplateError as ChatTemplateError,
    ClosedError as ClosedError,
    ConfigError as ConfigError,
    ContextLengthError as ContextLengthError,
    FeedError as FeedError,
    HogwildError as HogwildError,
    LentModelError as LentModelError,
    LimitError as LimitError,
    ModelError as ModelError,
    ParallelError as ParallelError,
    PolicyError as PolicyError,
    ProblemError as ProblemError,
    RunError as RunError,
    TickError as TickError,
    TranscriptError as TranscriptError,
    UnsupportedModelError as UnsupportedModelError,
    UsageError as UsageError,
)
from hogwild_agents.events import (
    ActionTaken as ActionTaken,
    Event as Event,
    LimitReached as LimitReached,
    PolicyFailed as PolicyFailed,
    ProbeAnswered as ProbeAnswered,
    RunEnded as RunEnded,
    RunStarted as RunStarted,
    Source as Source,
    StepEnded as StepEnded,
    TickEnded as TickEnded,
    TokensWritten as TokensWritten,
    WorkerJoined as WorkerJoined,
    WorkerLeft as WorkerLeft,
)
from hogwild_agents.layouts import (
    Board as Board,
    Combined as Combined,
    Contiguous as Contiguous,
    Headings as Headings,
    Interleaved as Interleaved,
    Isolated as Isolated,
    Layout as Layout,
    Place as Place,
)
from hogwild_agents.limits import (
    Limits as Limits,
)
from hogwild_agents.models import (
    LanguageModel as LanguageModel,
    LoadProgress as LoadProgress,
    load_model as load_model,
)
from hogwild_agents.policy import (
    Answer as Answer,
    Observer as Observer,
    Policy as Policy,
)
from hogwild_agents.policy_function import (
    controller as controller,
    observer as observer,
)
from hogwild_agents.prompt import (
    Prompt as Prompt,
    available_prompts as available_prompts,
)
from hogwild_agents.result import (
    RunResult as RunResult,
    Step as Step,
    TypedResult as TypedResult,
)
from hogwild_agents.run import (
    Run as Run,
)
from hogwild_agents.run_view import (
    RunView as RunView,
)
from hogwild_agents.statistics import (
    Statistics as Statistics,
)
from hogwild_agents.team import (
    Team as Team,
)
from hogwild_agents.text import (
    TextStream as TextStream,
)
from hogwild_agents.tools import (
    Tool as Tool,
    ToolResult as ToolResult,
)
from hogwild_agents.transcript import (
    Transcript as Transcript,
    TranscriptHeader as TranscriptHeader,
    read_transcript as read_transcript,
    rebuild as rebuild,
)
from hogwild_agents.typing_worker import (
    TypingWorker as TypingWorker,
)
from hogwild_agents.unknown_names import (
    UnknownWorkerWarning as UnknownWorkerWarning,
)
from hogwild_agents.worker import (
    Token as Token,
    Worker as Worker,
)

__version__: str
__all__: list[str]
