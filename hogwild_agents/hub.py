"""Hub: whether Hugging Face can be asked for a model, found out by one request without retries.

A download tries again and again, which is right in its middle, and half a minute of waiting where
there is no network at all. So it is asked once, before anything else is.
"""

from __future__ import annotations

from hogwild_agents.errors import ModelError

ADVICE = "check the connection, or fetch the model elsewhere and give its folder"
_FILE = "config.json"


def is_reachable(name: str, revision: str | None) -> bool:
    """Return whether the hub answers; if not, the cache on this machine has the model's config.

    An answer that refuses is an answer: transformers says what it means.

    Args:
        name: a Hugging Face id.
        revision: a branch, a tag or a commit.

    Raises:
        ModelError: the hub does not answer, or may not be asked, and the cache has no config.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        get_hf_file_metadata(hf_hub_url(name, _FILE, revision=revision))
    except (HfHubHTTPError, HFValidationError):
        return True
    except OfflineModeIsEnabled as error:
        fault, advice = "HF_HUB_OFFLINE forbids to fetch it", "unset it, or give the model's folder"
        cause: Exception = error
    except Exception as error:  # whatever the http library of the day calls it
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        fault, advice = f"{constants.ENDPOINT} cannot be reached ({reason})", ADVICE
        cause = error
    else:
        return True
    if isinstance(try_to_load_from_cache(name, _FILE, revision=revision), str):
        return False
    raise ModelError(
        f"The model {name!r} is neither a folder here nor in the cache of Hugging Face, and "
        f"{fault}: {advice}."
    ) from cause
