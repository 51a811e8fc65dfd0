"""The menu of data set layouts."""

from typing import Annotated

from pydantic import Field

from segpipe.dataset.sources.auto import Auto
from segpipe.dataset.sources.decathlon import Msd
from segpipe.dataset.sources.folder import Folder
from segpipe.dataset.sources.nnunet import NnUnet
from segpipe.dataset.sources.table import Csv

Source = Annotated[Auto | Msd | NnUnet | Folder | Csv, Field(discriminator="kind")]
"""Where cases come from."""
