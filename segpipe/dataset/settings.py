"""The settings that decide a data set; later stages read them to know where the source files lie."""

from segpipe.core.section import Section
from segpipe.dataset.checks import CheckConfig
from segpipe.dataset.sources import Source
from segpipe.dataset.splits import SplitConfig
from segpipe.dataset.survey import PicturesConfig


class IngestConfig(Section):
    """Where cases come from, what is checked, how they are divided."""

    source: Source
    """The data set."""
    subject_pattern: str | None = None
    """A regular expression whose first group, found in a case id, is the subject; empty: each case is one."""
    pictures: PicturesConfig = PicturesConfig()
    """How 2D pictures are taken."""
    check: CheckConfig = CheckConfig()
    """What counts as a fault."""
    split: SplitConfig = SplitConfig()
    """Test split and folds."""
