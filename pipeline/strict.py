"""The name under which stages knew `gait.strict.StrictModel`; goes once none imports it here."""

from gait.strict import StrictModel as StrictModel
