"""The command ``hogwild``: runs, replays, facts about models, evaluation."""
