"""Colors of the storybook world, and their tints by time of day and weather."""

from __future__ import annotations

from collections.abc import Callable

Color = tuple[int, int, int]
Tint = Callable[[Color], Color]

INK: Color = (44, 36, 48)

WALLS: dict[str, Color] = {
    "red": (206, 52, 46),
    "blue": (52, 104, 208),
    "yellow": (244, 200, 58),
    "white": (248, 245, 238),
    "green": (62, 158, 92),
}
ROOFS: dict[str, Color] = {
    "brown": (138, 86, 54),
    "red": (196, 58, 48),
    "blue": (58, 92, 184),
    "gray": (124, 130, 142),
}
DOORS: dict[str, Color] = {"brown": (124, 80, 48), "red": (204, 40, 52), "blue": (46, 96, 206)}
# ground near, ground far, leaves, leaves' light side
SEASONS: dict[str, tuple[Color, Color, Color, Color]] = {
    "spring": ((146, 206, 96), (182, 222, 132), (242, 158, 190), (252, 206, 222)),
    "summer": ((88, 164, 62), (128, 188, 84), (44, 118, 52), (88, 158, 70)),
    "autumn": ((196, 142, 66), (216, 170, 92), (214, 92, 32), (240, 152, 48)),
    "winter": ((238, 243, 250), (216, 228, 242), (150, 140, 142), (250, 252, 255)),
}
SAND: dict[str, Color] = {
    "spring": (236, 218, 164),
    "summer": (248, 216, 136),
    "autumn": (208, 172, 112),
    "winter": (240, 243, 248),
}
WATER: dict[str, Color] = {
    "spring": (92, 170, 214),
    "summer": (48, 150, 216),
    "autumn": (82, 138, 168),
    "winter": (178, 212, 232),
}
# sky at the top, sky at the horizon
SKIES: dict[str, tuple[Color, Color]] = {
    "day": ((92, 172, 236), (206, 234, 250)),
    "sunset": ((226, 112, 108), (255, 204, 112)),
    "night": ((16, 20, 62), (52, 60, 122)),
}
WEATHER_SKY: dict[str, tuple[Color, float]] = {
    "clear": ((255, 255, 255), 0.0),
    "rain": ((120, 130, 146), 0.72),
    "fog": ((226, 230, 232), 0.66),
    "storm": ((64, 52, 84), 0.85),
}
_TIME_TINT: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.03, 0.82, 0.72),
    "night": (0.50, 0.54, 0.80),
}
_WEATHER_LIGHT = {"clear": 1.0, "rain": 0.84, "fog": 0.97, "storm": 0.68}


def mix(a: Color, b: Color, t: float) -> Color:
    """Mix two colors: `a` at t = 0, `b` at t = 1."""
    return (
        round(a[0] + (b[0] - a[0]) * t),
        round(a[1] + (b[1] - a[1]) * t),
        round(a[2] + (b[2] - a[2]) * t),
    )


def light(time: str, weather: str) -> Tint:
    """The light at a time of day under a weather, as a map of colors; lamps and stars are painted without it."""
    r, g, b = (channel * _WEATHER_LIGHT[weather] for channel in _TIME_TINT[time])

    def tint(color: Color) -> Color:
        return (min(255, round(color[0] * r)), min(255, round(color[1] * g)), min(255, round(color[2] * b)))

    return tint


def brighter(tint: Tint, share: float) -> Tint:
    """A light that darkens every color by only 1 - `share` of what `tint` does."""
    return lambda color: mix(tint(color), color, share)


def sky_gradient(time: str, weather: str) -> tuple[Color, Color]:
    """Colors of the sky at the top and at the horizon."""
    top, bottom = SKIES[time]
    veil, strength = WEATHER_SKY[weather]
    # The veil is tinted by the time of day too, or rain at night would be brighter than a clear night.
    veil = light(time, "clear")(veil)
    return mix(top, veil, strength), mix(bottom, veil, strength)
