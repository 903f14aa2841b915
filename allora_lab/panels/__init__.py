"""Panels: widgets that hold the controls of a figure, and no mathematics."""
