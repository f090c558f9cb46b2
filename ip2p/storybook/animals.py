"""Animals and flying things, each with an outline and colors of its own."""

from __future__ import annotations

from ip2p.storybook.brush import Brush, Drawing
from ip2p.storybook.palette import INK, Color

WHITE: Color = (252, 249, 243)
PINK: Color = (244, 168, 176)


def sheep(brush: Brush) -> None:
    """A fluffy white body, a dark face."""
    dark: Color = (72, 62, 68)
    for x in (-0.36, -0.14, 0.16, 0.36):
        brush.box((x - 0.06, 0, x + 0.06, 0.3), dark)
    for puff in ((-0.48, 0.5), (-0.26, 0.74), (0.08, 0.78), (0.36, 0.62), (0.14, 0.38), (-0.26, 0.36)):
        brush.disc(puff, (0.25, 0.22), WHITE)
    brush.disc((-0.05, 0.56), (0.46, 0.25), WHITE, None)
    brush.disc((0.62, 0.66), (0.21, 0.24), dark)
    brush.disc((0.4, 0.76), (0.13, 0.07), dark)
    brush.disc((0.5, 0.9), (0.17, 0.12), WHITE)
    brush.disc((0.68, 0.72), (0.05, 0.06), WHITE, None)


def cow(brush: Brush) -> None:
    """A white, boxy body with black patches, horns and a pink muzzle."""
    black: Color = (44, 38, 46)
    for x in (-0.5, -0.28, 0.18, 0.4):
        brush.box((x - 0.07, 0, x + 0.07, 0.38), WHITE)
    brush.box((-0.62, 0.3, 0.52, 0.86), WHITE)
    brush.disc((-0.34, 0.64), (0.2, 0.17), black, None)
    brush.disc((0.18, 0.54), (0.18, 0.19), black, None)
    brush.limb([(-0.62, 0.8), (-0.76, 0.36)], black, 0.06)
    for tip, root in ((0.44, 0.52), (0.92, 0.84)):
        brush.polygon([(root - 0.06, 0.98), (root + 0.06, 0.98), (tip, 1.2)], (236, 220, 176))
    brush.box((0.42, 0.52, 0.94, 1.02), WHITE)
    brush.box((0.42, 0.76, 0.64, 1.02), black, None)
    brush.box((0.44, 0.46, 0.96, 0.68), PINK)
    brush.disc((0.58, 0.85), (0.05, 0.06), WHITE, None)
    brush.disc((0.82, 0.85), (0.05, 0.06), INK, None)


def fox(brush: Brush) -> None:
    """Orange, with a brush of a tail, pointed ears and a white muzzle."""
    orange: Color = (242, 118, 28)
    brush.polygon([(-0.4, 0.4), (-0.84, 0.42), (-1.08, 0.78), (-0.86, 0.98), (-0.6, 0.84), (-0.4, 0.64)], orange)
    brush.polygon([(-1.08, 0.76), (-0.84, 0.8), (-0.72, 0.96), (-0.96, 1.1)], WHITE)
    for x in (-0.38, -0.2, 0.18, 0.36):
        brush.box((x - 0.07, 0, x + 0.07, 0.36), (88, 52, 42))
    brush.disc((-0.04, 0.48), (0.52, 0.23), orange)
    for x in (0.36, 0.72):
        brush.polygon([(x - 0.1, 0.9), (x + 0.14, 0.9), (x + 0.02, 1.22)], orange)
    brush.polygon([(0.24, 0.86), (0.34, 0.98), (0.78, 0.98), (0.88, 0.86), (0.6, 0.46), (0.52, 0.46)], orange)
    brush.polygon([(0.3, 0.76), (0.56, 0.66), (0.82, 0.76), (0.6, 0.46), (0.52, 0.46)], WHITE)
    brush.disc((0.56, 0.5), (0.07, 0.06), INK, None)
    for x in (0.44, 0.7):
        brush.disc((x, 0.83), (0.05, 0.06), INK, None)


def rabbit(brush: Brush) -> None:
    """A round, sitting, gray-brown body with two tall ears."""
    fur: Color = (176, 150, 136)
    for x in (0.16, 0.42):
        brush.disc((x, 1.0), (0.11, 0.34), fur)
        brush.disc((x, 1.0), (0.05, 0.24), PINK, None)
    brush.disc((-0.54, 0.24), (0.15, 0.15), WHITE)
    brush.disc((-0.12, 0.36), (0.46, 0.36), fur)
    brush.disc((0.3, 0.6), (0.32, 0.28), fur)
    brush.disc((0.22, 0.07), (0.24, 0.08), WHITE)
    for x in (0.22, 0.46):
        brush.disc((x, 0.66), (0.05, 0.07), INK, None)
    brush.disc((0.35, 0.53), (0.06, 0.05), PINK)


def cat(brush: Brush) -> None:
    """A dark gray sitting cat with pointed ears, green eyes and an upright tail."""
    fur: Color = (92, 96, 112)
    brush.limb([(-0.3, 0.14), (-0.58, 0.3), (-0.6, 0.72), (-0.46, 0.9)], fur, 0.13)
    brush.polygon([(-0.4, 0), (0.4, 0), (0.38, 0.3), (0.24, 0.66), (-0.24, 0.66), (-0.4, 0.3)], fur)
    brush.disc((0, 0.28), (0.16, 0.24), WHITE, None)
    for x in (-0.2, 0.2):
        brush.disc((x, 0.07), (0.14, 0.08), WHITE)
        brush.polygon([(x * 1.7, 0.94), (x * 0.3, 1.02), (x * 1.5, 1.3)], fur)
    brush.disc((0, 0.84), (0.36, 0.28), fur)
    for x in (-0.15, 0.15):
        brush.disc((x, 0.88), (0.08, 0.08), (150, 220, 90), None)
        brush.disc((x, 0.88), (0.03, 0.07), INK, None)
    brush.polygon([(-0.06, 0.76), (0.06, 0.76), (0, 0.69)], PINK, None)


def dog(brush: Brush) -> None:
    """A standing golden dog with floppy brown ears and a raised tail."""
    fur, brown = (232, 176, 88), (140, 84, 48)
    brush.limb([(-0.5, 0.6), (-0.74, 0.98)], fur, 0.11)
    for x in (-0.44, -0.24, 0.16, 0.34):
        brush.box((x - 0.08, 0, x + 0.08, 0.4), fur)
    brush.box((-0.56, 0.3, 0.46, 0.7), fur)
    brush.disc((0.52, 0.86), (0.3, 0.28), fur)
    brush.disc((0.74, 0.76), (0.22, 0.15), WHITE)
    brush.disc((0.9, 0.82), (0.08, 0.07), INK, None)
    brush.disc((0.32, 0.82), (0.12, 0.26), brown)
    brush.disc((0.6, 0.94), (0.05, 0.06), INK, None)
    brush.box((0.28, 0.56, 0.58, 0.65), (206, 48, 52))


def horse(brush: Brush) -> None:
    """A tall chestnut horse with a dark mane and tail."""
    coat, mane = (168, 92, 50), (66, 42, 40)
    brush.limb([(-0.56, 0.78), (-0.74, 0.66), (-0.76, 0.26)], mane, 0.14)
    for x in (-0.46, -0.28, 0.18, 0.36):
        brush.box((x - 0.065, 0, x + 0.065, 0.48), coat)
        brush.box((x - 0.065, 0, x + 0.065, 0.1), mane)
    brush.disc((-0.06, 0.64), (0.54, 0.25), coat)
    brush.polygon([(0.16, 0.76), (0.46, 0.56), (0.78, 1.14), (0.5, 1.28)], coat)
    brush.polygon([(0.12, 0.8), (0.24, 0.72), (0.56, 1.2), (0.5, 1.34), (0.4, 1.3)], mane)
    brush.polygon([(0.52, 1.3), (0.76, 1.28), (1.06, 0.98), (0.96, 0.84), (0.62, 1.02)], coat)
    brush.polygon([(0.54, 1.26), (0.68, 1.26), (0.6, 1.44)], coat)
    brush.disc((0.72, 1.16), (0.05, 0.06), INK, None)
    brush.disc((0.96, 0.94), (0.04, 0.04), INK, None)


def balloon(brush: Brush) -> None:
    """A striped hot-air balloon with its basket."""
    brush.line([(-0.22, 0.42), (-0.1, 0.16)], INK)
    brush.line([(0.22, 0.42), (0.1, 0.16)], INK)
    brush.disc((0, 0.66), (0.37, 0.37), (232, 58, 88))
    brush.disc((0, 0.66), (0.21, 0.37), (255, 214, 74))
    brush.disc((0, 0.66), (0.08, 0.37), (232, 58, 88), None)
    brush.box((-0.13, 0, 0.13, 0.19), (146, 96, 56))


def bird(brush: Brush) -> None:
    """A large white bird with blue-gray spread wings and an orange beak."""
    feather: Color = (112, 122, 184)
    brush.polygon([(-0.08, 0.44), (-0.6, 1.04), (-1.0, 0.92), (-0.74, 0.66), (-0.4, 0.3)], feather)
    brush.polygon([(0.02, 0.48), (0.36, 1.1), (0.78, 1.1), (0.62, 0.74), (0.36, 0.34)], feather)
    brush.polygon([(-0.4, 0.42), (-0.88, 0.44), (-0.8, 0.18)], feather)
    brush.disc((0, 0.36), (0.48, 0.19), WHITE)
    brush.disc((0.48, 0.48), (0.19, 0.18), WHITE)
    brush.polygon([(0.64, 0.54), (0.94, 0.44), (0.64, 0.38)], (250, 160, 36))
    brush.disc((0.53, 0.53), (0.05, 0.05), INK, None)


ANIMALS: dict[str, Drawing] = {
    "sheep": sheep, "cow": cow, "fox": fox, "rabbit": rabbit, "cat": cat, "dog": dog, "horse": horse,
}  # fmt: skip
FLYERS: dict[str, Drawing] = {"balloon": balloon, "bird": bird}
