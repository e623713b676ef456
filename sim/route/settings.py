"""What makes a walk a route question. Decides by numbers only; finds nothing."""

from __future__ import annotations

from dataclasses import dataclass

from vlm3r_core.config import check_settings, setting


@dataclass(frozen=True)
class RouteSettings:
    """The rules for routes.

    Source: VLM-3R appendix B for turn_deg and for the 45 degrees of the reversed variant, which are 180 - back_deg.
    Differs: the paper turns where the shortest way from start to goal turns. Such a way hugs the inner corner of what
    is around, so the landmarks there seldom tell the same turn; here a route is a chain of straight shortest ways from
    landmark to landmark, not longer than max_detour times the shortest. What one faces in template 2 is a landmark in
    sight, walkable to or not. What the paper leaves open is ours.
    """

    turns: int = setting(1, "turns of a route; the paper has 1, with more the options are combinations", span=(1, 3))
    turn_deg: float = setting(30.0, "a change of direction by more than this is a turn, degrees", span=(5.0, 90.0))
    back_deg: float = setting(135.0, "turning by more than this is turning back, degrees", span=(100.0, 175.0))
    margin_deg: float = setting(10.0, "an angle nearer than this to a limit is ambiguous, degrees", span=(0.0, 30.0))
    max_detour: float = setting(
        1.5, "how many times as long as the shortest way from start to goal a route may be", span=(1.0, 10.0)
    )
    bend_m: float = setting(0.2, "a way that leaves the straight line by less than this is straight", span=(0.0, 2.0))
    min_leg_m: float = setting(1.2, "shortest straight part of a route, metres", span=(0.1, 20.0))
    max_leg_m: float = setting(8.0, "longest straight part of a route, metres", span=(0.5, 100.0))
    anchor_m: float = setting(0.8, "how far a landmark's box may be from the stop it names, metres", span=(0.05, 5.0))
    nearer_m: float = setting(
        0.6, "a landmark is nearer to its stop than to the others by at least this, metres", span=(0.0, 5.0)
    )
    aim_deg: float = setting(
        20.0, "how far off the walking direction the landmark ahead may be, degrees", span=(1.0, 60.0)
    )
    stray_corners: int = setting(
        2, "of the 8 corners of a goal's box, how many may be in another direction than its centre", span=(0, 8)
    )
    neighbour_m: float = setting(
        1.5, "one of several things is named by a single thing at most this far from it, metres; 0: never", span=(0, 10)
    )
    clearer_m: float = setting(
        0.5, "and is nearer to that thing than the others of its kind by at least this, metres", span=(0.0, 5.0)
    )
    min_object_m: float = setting(0.25, "longest side of a landmark at least, metres", span=(0.0, 5.0))
    min_seen_share: float = setting(
        5e-4, "share of a picture aimed at a landmark that shows it where it counts as seen", span=(0.0, 1.0)
    )
    camera_height_m: float = setting(1.5, "eyes above the feet, metres; as high as the world's camera", span=(0, 3))
    template_1_share: float = setting(0.5, "share of template 1 among the left and right turns", span=(0.0, 1.0))
    standing_points: int = setting(4000, "points drawn from the walkable area to start and end at", span=(10, 10**6))
    patience: int = setting(
        1000, "turning places tried without a new route before a scene is given up", span=(1, 10**6)
    )

    def __post_init__(self):
        check_settings(self)
        for low, high in (("min_leg_m", "max_leg_m"), ("turn_deg", "back_deg")):
            apart = 2 * self.margin_deg if low == "turn_deg" else 0.0
            if getattr(self, low) + apart >= getattr(self, high):
                raise ValueError(
                    f"RouteSettings.{low} must be below {high}, margins included, got {getattr(self, low)} and "
                    f"{getattr(self, high)} with margin_deg {self.margin_deg}"
                )
