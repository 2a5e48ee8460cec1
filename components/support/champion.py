"""The model that serves today, ready to be scored beside a candidate."""

from pathlib import Path

from sasrec.data.vocabulary import Vocabulary
from sasrec.model.recommender import Recommender
from sasrec.scoring.scorer import Scorer
from sasrec.scoring.vocabulary_adapter import VocabularyAdapter
from serving.registry import open_store


def load_champion(home: Path, vocabulary: Vocabulary) -> Scorer | None:
    """The champion of the site at `home`, scoring `vocabulary`; None before the first one."""
    store = open_store(home)
    version = store.aliases().champion
    if version is None:
        return None
    store.verify(version)
    champion = Recommender.load(store.path(version))
    return VocabularyAdapter(champion, champion.vocabulary, vocabulary)
