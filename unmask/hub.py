"""What a model hub has, or why it cannot be had, in words.

A hub is asked one short question before anything else: huggingface_hub asks five times, which takes
half a minute where there is no network.
"""

from __future__ import annotations

import os


def why_out_of_reach() -> str | None:
    """None when the hub answers; else the reason in words."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception as error:  # the HTTP client's own errors, none of which share a base with ours
        return f"no hub in reach ({type(error).__name__})"
    return None


def why_not_on_hub(
    hub_id: str, revision: str | None = None, file: str = "config.json", token: str | None = None
) -> str | None:
    """None when the hub, or its local cache, has this file of a model; else the reason in words."""
    from huggingface_hub import errors, hf_hub_download, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(hub_id, file, revision=revision), str):
        return None
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return "it is not in the cache, and HF_HUB_OFFLINE is set"
    if (reason := why_out_of_reach()) is not None:
        return reason
    try:
        hf_hub_download(hub_id, file, revision=revision, token=token, etag_timeout=5)
    except errors.GatedRepoError:
        return f"its licence must be accepted first at https://huggingface.co/{hub_id}"
    except errors.RepositoryNotFoundError:
        return "the hub has no such model, or it is private: log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        return f"it has no revision {revision}"
    except errors.LocalEntryNotFoundError:
        return "no hub in reach and nothing in the cache"
    except errors.EntryNotFoundError:
        return lacks(file)
    except errors.HfHubHTTPError as error:
        return f"the hub answered {error.response.status_code}"
    except OSError as error:
        return f"no hub in reach ({type(error).__name__})"
    return None


def lacks(file: str) -> str:
    """The reason of `why_not_on_hub` where the model is there, but not this file of it."""
    return f"it holds no {file}"
