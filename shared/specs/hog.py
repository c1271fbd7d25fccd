"""The settings of ``generate-mask`` by the method ``hog``."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

WINDOW = 80  # dlib's detector finds no smaller faces
_OF_SPRITES = ("sprites",)
_OF_GRID = ("cell", "tile", "begin")
_OF_DECOYS = ("scales",)
_OF_HIDE = ("sizes",)


TileSide = Annotated[int, Field(ge=2, le=256)]


class HogSettings(BaseModel):
    """A pattern that is annealed against dlib's HOG face detector, as in paper 002."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Literal["decoys", "hide"] = Field(
        default="decoys",
        description=(
            "`decoys`: maximize the false faces in the pattern; `hide`: prevent that the faces on "
            "`images`, who wear the pattern as a mask, are not found"
        ),
    )
    pattern: Literal["sprites", "grid"] = Field(
        default="sprites", description="face-like strokes on black, or cells of free colors"
    )
    steps: int = Field(default=2000, ge=1, le=200_000, description="of four proposals each")
    side: int = Field(default=766, ge=96, le=2048, description="of the square canvas, in pixels")
    sprites: int = Field(default=6, ge=1, le=500, description="how many, for `sprites`")
    cell: int = Field(default=8, ge=1, le=128, description="side of a cell in pixels, for `grid`")
    tile: TileSide | tuple[TileSide, TileSide] | None = Field(
        default=None,
        description=(
            "for `grid`: so many cells a side, or rows and columns, repeat over the canvas; "
            "default: none do"
        ),
    )
    begin: Literal["noise", "gray", "face"] = Field(
        default="noise", description="what a `grid` begins as"
    )
    scales: tuple[Annotated[float, Field(ge=0.1, le=2)], ...] = Field(
        default=(1.0,),
        min_length=1,
        max_length=4,
        description="for `decoys`: shares of its size at which the pattern is looked at",
    )
    sizes: tuple[Annotated[int, Field(ge=WINDOW, le=400)], ...] = Field(
        default=(100, 140, 200),
        min_length=1,
        max_length=4,
        description="for `hide`: sides of the wearer's face in pixels at which it is looked for",
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="that share the work, at most the worker's cores; default: all of those",
    )

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        unused = _OF_GRID if self.pattern == "sprites" else _OF_SPRITES
        if changed := self._changed(unused):
            raise ValueError(f"the pattern `{self.pattern}` has no {changed}")
        unused = _OF_HIDE if self.objective == "decoys" else _OF_DECOYS
        if changed := self._changed(unused):
            raise ValueError(f"the objective `{self.objective}` has no {changed}")
        if self.cell > self.side // 2:
            raise ValueError(f"cells of {self.cell} pixels are too large for {self.side}")
        most = max(self.tile_shape or (0, 0))
        if most > -(-self.side // self.cell):
            raise ValueError(f"a `tile` of {most} cells is larger than the canvas")
        if self.objective == "decoys" and min(self.scales) * self.side < WINDOW:
            raise ValueError(f"at the smallest of `scales` the canvas is under {WINDOW} pixels")
        return self

    @property
    def tile_shape(self) -> tuple[int, int] | None:
        """Rows and columns of cells that repeat, if any."""
        return (self.tile, self.tile) if isinstance(self.tile, int) else self.tile

    def _changed(self, names: tuple[str, ...]) -> str:
        """Name only non-default fields: a stored spec contains all of them."""
        fields = type(self).model_fields
        changed = [name for name in names if getattr(self, name) != fields[name].default]
        return ", ".join(f"`{name}`" for name in changed)
