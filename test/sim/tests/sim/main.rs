//! The simulation itself: that it replays, that each of its properties notices, and that it finds what is broken.

mod breakages;
mod cheats;
mod evidence;
mod replay;
