"""The gain curve: how much robust accuracy each setting gains over its baseline, at every radius."""

from matplotlib.figure import Figure

from jaxreg.claims import gain
from jaxreg.claims.trials import Unmeasured, pairs_of
from jaxreg.report import claimed
from jaxreg.report.data import StudyData
from jaxreg.report.figures import counts
from jaxreg.report.figures.maker import Maker
from jaxreg.report.palette import canvas, looks


def curves(data: StudyData) -> dict[str, gain.Gain]:
    """By setting its curve; of settings whose minimal radii were sought, and whose baseline has them too."""
    found: dict[str, gain.Gain] = {}
    several = len(data.config) > 1
    for study in data.config:
        for pair in pairs_of(claimed.source(data, study)):
            name = f"{study}: {pair.own.setting.label}" if several else pair.own.setting.label
            if pair.own.setting != pair.base.setting and name in data.settings:
                try:
                    found[name] = gain.curve(pair)
                except Unmeasured:
                    continue
    return found


def figure(data: StudyData) -> Figure | None:
    """Draws the gain of every setting with its band, and the radius where it vanishes; None without minimal radii."""
    found = curves(data)
    if not found:
        return None
    look = looks(data)
    figure_ = canvas(3.6, look, only=found)
    axis = figure_.subplots()
    for setting, one in found.items():
        shape = look[setting]
        axis.plot(one.radii, 100 * one.gain.effect, shape.line, color=shape.colour)
        axis.fill_between(
            one.radii, 100 * one.gain.low, 100 * one.gain.high, color=shape.colour, alpha=0.13, linewidth=0
        )
        if one.crosses is not None:
            axis.plot(one.crosses, 0, shape.marker, color=shape.colour, markersize=6, clip_on=False)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(
        xlabel="radius", ylabel="robust accuracy gained, points", xlim=(0, max(one.radii[-1] for one in found.values()))
    )
    return figure_


FIGURES = {
    "gain": Maker(
        "robustness",
        figure,
        "Robust accuracy gained over the baseline at every radius, from the smallest radius that was seen to fool each "
        "image: the mean over seeds, in a band that holds for the whole curve with 95 %, over seeds and images. At "
        "radius 0 it is the gain in accuracy. A mark on the axis: where a gain has vanished again.",
        told=counts.over("min_eps"),
    ),
}
